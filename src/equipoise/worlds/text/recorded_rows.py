"""Rendered records as rows: pairs, lists of one length, pairs with a margin or a rationale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from equipoise.data.collate import Prompt, Response
from equipoise.data.errors import DataError
from equipoise.data.ranked_lists import spread, usual_size
from equipoise.data.rationale_prompt import RationalePrompt
from equipoise.data.render import Rendered
from equipoise.play.rows import Rows, objects


def responses_of(item: Rendered) -> list[Response]:
    """A record's answers as the policy scores them."""
    parts = zip(item.response_ids, item.record.candidates, item.finished, strict=True)
    return [Response(ids, candidate.text, finished) for ids, candidate, finished in parts]


def pair_rows(items: Sequence[Rendered], prompts: Sequence[Prompt]) -> Rows:
    """Recorded pairs with their labels."""
    return Rows(
        prompts=objects(list(prompts)),
        responses=objects([responses_of(item) for item in items], width=2),
        weight=np.array([item.record.weight for item in items], dtype=np.float64),
        writers=("recorded", "recorded"),
        prob=np.array([item.record.prob for item in items], dtype=np.float64),
    )


def list_rows(
    items: Sequence[Rendered], prompts: Sequence[Prompt], size: int | None = None
) -> tuple[Rows, int]:
    """Lists of one length, best answer first, their scores as rewards; and how many shorter ones were left out.

    size    None: the most frequent length. Of a longer list the best, the worst and answers evenly between stay.
    """
    size = size or usual_size([len(item.response_ids) for item in items])
    kept = [i for i, item in enumerate(items) if len(item.response_ids) >= size]
    groups, rewards = [], []
    for i in kept:
        answers, scores = responses_of(items[i]), [c.score or 0.0 for c in items[i].record.candidates]
        order = sorted(range(len(answers)), key=lambda k: -scores[k])
        chosen = [order[place] for place in spread(len(order), size)]
        groups.append([answers[k] for k in chosen])
        rewards.append([scores[k] for k in chosen])
    rows = Rows(
        prompts=objects([prompts[i] for i in kept]),
        responses=objects(groups, width=size),
        weight=np.array([items[i].record.weight for i in kept], dtype=np.float64),
        writers=("recorded",) * size,
        reward=np.array(rewards, dtype=np.float64).reshape(len(kept), size),
    )
    return rows, len(items) - len(kept)


def best_and_worst(lists: Rows) -> Rows:
    """The first and the last answer of each list as a pair whose order is certain; ties are left out."""
    assert lists.reward is not None
    untied = lists.take(lists.reward[:, 0] > lists.reward[:, -1])
    first, last = (np.full(len(untied), k) for k in (0, untied.responses.shape[1] - 1))
    return replace(untied.pair(first, last, np.ones(len(untied))), reward=None)


def with_margins(rows: Rows, items: Sequence[Rendered]) -> Rows:
    """The pairs whose data say by how much the chosen answer is better: rewards (margin, 0), and no label.

    Raises DataError where no pair has a margin above 0.
    """
    margin = np.array([item.record.margin or 0.0 for item in items], dtype=np.float64)
    if not (margin > 0).any():
        raise DataError(
            "no pair says how much better its chosen answer is",
            hint="give a column `margin`, or scored lists",
        )
    scored = replace(rows, prob=None, reward=np.stack([margin, np.zeros_like(margin)], axis=1))
    return scored.take(margin > 0)


def with_rationales(
    rows: Rows, items: Sequence[Rendered], reasons: Sequence[RationalePrompt], longest: int
) -> Rows:
    """Pairs, preferred answer first, each with its rationale behind the lead that declares the preference.

    reasons    who makes each pair's lead.        longest    tokens of a row; longer ones are left out.

    Raises DataError where no pair has a rationale that fits.
    """
    pairs = rows.preferred_first()
    third, kept = [], []
    for i, (item, by) in enumerate(zip(items, reasons, strict=True)):
        text = item.record.rationale
        if not text:
            continue
        prompt, (better, worse) = pairs.prompts[i], pairs.responses[i]
        reason = Response(by.rationale(text), text, lead=by(prompt, better, worse))
        if len(prompt.ids) + len(reason.lead) + len(reason.ids) <= longest:
            kept.append(i)
            third.append([reason])
    if not kept:
        raise DataError(
            "no pair has a rationale that fits", hint="give a column `rationale`, or a larger data.max_length"
        )
    chosen = pairs.take(np.array(kept))
    return replace(chosen.append(objects(third, width=1), "rationale"), prob=chosen.prob)
