"""Votes as training pairs: `prob` is the mean of the raters' votes; both bad and skips are left out and counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from equipoise.label.errors import LabelError
from equipoise.label.summary import labels
from equipoise.label.votes import Votes


def training_pairs(votes: Votes) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """(rows that `data.read` reads as pairs, account).

    A row has `prompt`, `chosen`, `rejected`, with the answer that people prefer as `chosen`; `prob`, P(chosen beats
    rejected): 1, or 1/2 for a tie, or between for several raters who differ; `first_wins`, P(first beats second) in the
    order of the labelled data: 0, 1, 1/2 or between; `votes`, the number of raters; `systems` of chosen and rejected,
    and `notes`, where there are any.

    Raises LabelError if no pair has a vote.
    """
    found = labels(votes)
    notes: dict[str, list[str]] = defaultdict(list)
    pressed: dict[str, set[str]] = defaultdict(set)
    for cast in votes.cast.values():
        for vote in cast:
            pressed[vote.pair].add(vote.choice)
            if vote.note:
                notes[vote.pair].append(vote.note)
    rows = []
    for key, values in found.items():
        pair, first_wins = votes.pairs[key], sum(values) / len(values)
        order = (0, 1) if first_wins >= 0.5 else (1, 0)
        row: dict[str, Any] = {
            "id": pair.id or key,
            "prompt": pair.context,
            "chosen": pair.answers[order[0]],
            "rejected": pair.answers[order[1]],
            "prob": max(first_wins, 1 - first_wins),
            "first_wins": first_wins,
            "votes": len(values),
        }
        if None not in pair.systems:
            row["systems"] = [pair.systems[side] for side in order]
        row |= {"tools": list(pair.tools)} if pair.tools else {}
        row |= {"chat_template_kwargs": dict(pair.template_kwargs)} if pair.template_kwargs else {}
        rows.append(row | ({"notes": notes[key]} if notes[key] else {}))
    left_out = Counter(
        "not shown" if key not in pressed else "both bad" if "bad" in pressed[key] else "skipped"
        for key in votes.pairs
        if key not in found
    )
    account = {"written": len(rows), "ties": sum(row["prob"] == 0.5 for row in rows)}
    account |= {why: left_out[why] for why in ("both bad", "skipped", "not shown")}
    if not rows:
        raise LabelError(
            f"{votes.path}: no pair has a vote that says which answer is better, or that they tie"
        )
    return rows, account
