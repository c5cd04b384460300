"""Size of a run: comparisons, rounds and tokens, by which a method decides the parameters that are `auto`."""

from __future__ import annotations

from statistics import fmean
from typing import Literal

from equipoise.play.method import Method, Size
from equipoise.play.rows import Rows
from equipoise.run.config import ConfigError

WITHOUT_DATA = 128  # tokens of a sampled response, at most, where no response is recorded


def sized(method: Method, pairs: Rows | None, held_out: Rows | None, most: int | Literal["auto"]) -> Method:
    """The method for the run's size. Raises ConfigError if a parameter that was set does not go with a decided one.

    most  tokens of a sampled response at most, which count where none is recorded.
    """
    recorded = lengths(pairs, held_out) or [WITHOUT_DATA if most == "auto" else most]
    size = Size(
        comparisons=None if pairs is None else len(pairs),
        rounds=method.rounds,
        tokens=fmean(recorded),
    )
    try:
        return method.for_size(size)
    except ValueError as error:
        raise ConfigError(f"objective: {error}") from error


def lengths(*rows: Rows | None) -> list[int]:
    """Tokens of every recorded response of some rows."""
    return [
        len(response.ids) for one in rows if one is not None for group in one.responses for response in group
    ]
