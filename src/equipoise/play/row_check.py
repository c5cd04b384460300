"""Validation of rows against an objective's `reads`, before the first gradient step."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from equipoise.core.objectives.base import Objective
from equipoise.play.rows import Rows


def unmet(objective: Objective, rows: Rows, *, live: bool, learned: AbstractSet[str]) -> str | None:
    """The first thing that the objective reads and the rows do not supply, as a sentence; None if they supply all.

    live      whether live references or an auxiliary head are in memory during training.
    learned   names of the token weights that the auxiliary head outputs.
    """
    name, reads, held = type(objective).__name__, objective.reads, rows.responses.shape[1]
    if held < objective.candidates or (held > objective.candidates and not reads.group):
        more = " or more" if reads.group else ""
        return (
            f"{name} reads {objective.candidates}{more} responses per prompt, the comparisons have {held}; "
            "choose a pairing that forms comparisons of that size"
        )
    if not reads.pair_label and rows.reward is None:
        what = "labels of single responses" if reads.labels else "rewards"
        return f"{name} reads {what}, and the pairing gives none; choose a pairing that does"
    if reads.pair_label and rows.prob is None and rows.reward is not None:
        return f"{name} reads pair labels, and the pairing gives rewards only; choose a pairing that labels pairs"
    missing = sorted(set(reads.token_weights) - set(rows.token_weights) - learned)
    if missing:
        return (
            f"{name} reads token weights that nothing supplies: {', '.join(missing)}; use the update "
            "TokenWeighted, or LiveRefit with an auxiliary head that outputs them"
        )
    if reads.live and not live:
        return (
            f"{name} reads {', '.join(reads.live)} from models kept in memory during training; "
            "use the update LiveRefit"
        )
    return None
