"""Checks rows against what an objective reads, before the first gradient step."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from equipoise.core.objectives.base import Objective
from equipoise.play.rows import Rows


def unmet(objective: Objective, rows: Rows, *, live: bool, learned: AbstractSet[str]) -> str | None:
    """The first thing that the objective reads and the rows do not supply, as a sentence; None if they supply all.

    live      whether models besides the policy, and an auxiliary head, are in memory while it is trained.
    learned   names of the token weights that this auxiliary head gives.
    """
    name, reads, held = type(objective).__name__, objective.reads, rows.responses.shape[1]
    if held < objective.candidates or (held > objective.candidates and not reads.group):
        more = " or more" if reads.group else ""
        return (
            f"{name} reads {objective.candidates}{more} responses per prompt, the comparisons hold {held}; "
            "choose a pairing that forms comparisons of that size"
        )
    if not reads.pair_label and rows.reward is None:
        what = "labels of single responses" if reads.labels else "rewards"
        return f"{name} reads {what}; the pairing gave none: choose one that gives them"
    if reads.pair_label and rows.prob is None and rows.reward is not None:
        return (
            f"{name} reads the label of a pair; the pairing gave rewards only: choose one that labels pairs"
        )
    missing = sorted(set(reads.token_weights) - set(rows.token_weights) - learned)
    if missing:
        return (
            f"{name} reads weights of tokens that nothing supplies: {', '.join(missing)}; use the update "
            "TokenWeighted, or LiveRefit with an auxiliary head that gives them"
        )
    if reads.live and not live:
        return (
            f"{name} reads {', '.join(reads.live)} from models that must be in memory with the policy; "
            "use the update LiveRefit"
        )
    return None
