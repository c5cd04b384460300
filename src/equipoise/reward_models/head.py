"""Head of a reward model: what is read at the end of a text, and how its numbers become a preference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from equipoise.models.errors import ModelError

Kind: TypeAlias = Literal["bt", "gpm", "pair"]
KINDS: tuple[str, ...] = get_args(Kind)
MOST_OUTPUTS = 4096
SECTION = "equipoise"  # of config.json


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a reward model's outputs mean.

    kind         "bt": a reward for each attribute, P(1 > 2) = sigma(r_1 - r_2) (Bradley-Terry);
                 "gpm": an embedding v of 2k coordinates, P = sigma(s(1, 2) / temperature) with the skew-symmetric score
                 s of `core.links.skew_score` (general preference model);
                 "pair": both responses are read in one text, whose output is the logit that the first one wins
    attributes   names of a bt head's outputs; the reward is their mean, weighted by `weights`
    weights      of the attributes; () is equal weights
    dimension    2k, of a gpm head
    temperature  tau of a gpm head; None: 1 for two coordinates, else 0.1, as in the authors' code
    scales       whether a gpm head's k planes are scaled by the prompt: lambda = k softmax(W h / sqrt d), h the last
                 state of the prompt, d its width. One plane has nothing to be scaled against.
    normalise    whether embeddings have length 1

    Raises ModelError for a head that cannot be.
    """

    kind: Kind = "bt"
    attributes: tuple[str, ...] = ("reward",)
    weights: tuple[float, ...] = ()
    dimension: int = 6
    temperature: float | None = None
    scales: bool = True
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"a head's kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not self.attributes or len(set(self.attributes)) < len(self.attributes):
            raise ModelError(
                f"a reward model needs one or several attributes with names of their own, got {self.attributes}"
            )
        if self.weights and len(self.weights) != len(self.attributes):
            raise ModelError(
                f"{len(self.weights)} weights do not fit the {len(self.attributes)} attributes "
                f"({', '.join(self.attributes)})"
            )
        if not all(math.isfinite(weight) for weight in self.weights):
            raise ModelError(f"weights of attributes must be finite, got {self.weights}")
        if self.dimension < 2 or self.dimension % 2:
            raise ModelError(
                f"embeddings need an even number of coordinates, at least 2, got {self.dimension}"
            )
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ModelError(f"a head's temperature must be positive, got {self.temperature}")
        if self.outputs > MOST_OUTPUTS:
            raise ModelError(f"a head with {self.outputs} outputs is no reward model's")

    @property
    def outputs(self) -> int:
        """How many numbers the model's last layer gives."""
        return {"bt": len(self.attributes), "gpm": self.dimension, "pair": 1}[self.kind]

    @property
    def planes(self) -> int:
        """k, of a gpm head."""
        return self.dimension // 2

    @property
    def scaled(self) -> bool:
        """Whether the prompt scales the planes."""
        return self.kind == "gpm" and self.scales and self.planes > 1

    @property
    def tau(self) -> float:
        """Temperature of a gpm head, with its default."""
        return (1.0 if self.planes == 1 else 0.1) if self.temperature is None else self.temperature

    @property
    def mixture(self) -> tuple[float, ...]:
        """Weights of the attributes in the reward."""
        return self.weights or (1 / len(self.attributes),) * len(self.attributes)

    @property
    def plain(self) -> bool:
        """Whether a bare sequence classifier says it all: one reward."""
        return self == Head()

    def as_json(self) -> dict[str, Any]:
        """Section `equipoise` of config.json."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def of(cls, section: Any, where: str) -> Head:
        """The head that a section of config.json describes. Raises ModelError."""
        known = {field.name for field in fields(cls)}
        if not isinstance(section, Mapping) or not section.keys() <= known:
            raise ModelError(f"{where}: the section {SECTION!r} must hold only {', '.join(sorted(known))}")
        kinds: dict[str, Any] = {
            "kind": str,
            "attributes": list,
            "weights": list,
            "dimension": int,
            "temperature": (int, float, type(None)),
            "scales": bool,
            "normalise": bool,
        }
        for name, value in section.items():
            wrong = not isinstance(value, kinds[name]) or (
                isinstance(value, bool) and kinds[name] is not bool
            )
            if isinstance(value, list):
                item: Any = str if name == "attributes" else (int, float)
                wrong = not all(isinstance(each, item) and not isinstance(each, bool) for each in value)
            if wrong:
                raise ModelError(f"{where}: {name} of the section {SECTION!r} cannot be {value!r}")
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in section.items()
        }
        try:
            return cls(**settings)
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from None
