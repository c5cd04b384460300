"""Decoding settings fixed by a method: temperature, top-k and top-p of a policy's samples."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Sampling settings that a method fixes; None leaves a setting to the run.

    temperature   divides the logits, >= 0; 0 is greedy.
    top_k         keep the k most likely tokens; 0 keeps all.
    top_p         keep the most likely tokens up to this probability mass, 0 < top_p <= 1.

    In an exact game a response is one token, and the settings apply to its distribution over responses. Raises
    ValueError out of these ranges.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        temperature, top_k, top_p = self.temperature, self.top_k, self.top_p
        if (temperature is not None and temperature < 0) or (top_k is not None and top_k < 0):
            raise ValueError(f"need temperature >= 0 and top_k >= 0, got {temperature!r} and {top_k!r}")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {top_p!r}")

    def given(self) -> dict[str, Any]:
        """The settings that are fixed, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


AS_SET = Decode()
PLAIN = Decode(temperature=1.0, top_k=0, top_p=1.0)  # the policy itself
