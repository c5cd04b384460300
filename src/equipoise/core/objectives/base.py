"""What every objective is: a frozen, keyword-only callable from Scores to Losses."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from equipoise.core.scores import Losses, Scores


@runtime_checkable
class Objective(Protocol):
    """A pure function of scores.

    anchors      names of the frozen policies whose scores it reads; which policies they are is the
                 method's choice ("reference" = the initial policy, "previous" = the last round's).
    candidates   how many responses per prompt it reads: 2 for a pair, 3 for SPAC's pair and own response.

    Calling it gives the loss of each comparison under the label "candidate 0 beats candidate 1"; soft
    labels are handled once for all objectives by `reduce.expected`.
    """

    @property
    def anchors(self) -> tuple[str, ...]: ...

    @property
    def candidates(self) -> int: ...

    def __call__(self, scores: Scores) -> Losses: ...


def positive(**values: float) -> None:
    """Raise ValueError unless every named value is a positive finite number."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number, got {value!r}")
