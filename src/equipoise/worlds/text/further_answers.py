"""Self-revision columns (SRPO) and degraded responses (SPO), derived from a row's own responses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from equipoise.data import revision_prompt
from equipoise.data.collate import Prompt, Response, row_length
from equipoise.data.revision_prompt import Leads
from equipoise.play.rows import Rows, objects

log = logging.getLogger(__name__)

Degrade = Callable[[Prompt, Response, int], list[Response] | None]  # (prompt, response, degrees)


def both_roles(rows: Rows, lead: Leads, longest: int) -> Rows:
    """Six columns for a pair: both responses after the prompt, then each as a revision of each; long rows are dropped.

    lead      renders an earlier answer as the context of its revision.
    longest   maximal number of tokens of a row.
    """
    groups = [
        revision_prompt.both_roles(prompt, won, lost, lead)
        for prompt, (won, lost) in zip(rows.prompts, rows.responses, strict=True)
    ]
    fits = [
        max(row_length(p.ids, r) for r in group) <= longest
        for p, group in zip(rows.prompts, groups, strict=True)
    ]
    if not all(fits):
        log.warning("%d pairs are too long with a revision appended; left out", fits.count(False))
    six = replace(rows, responses=objects(groups, width=6), writers=(*rows.writers, *4 * ("lead",)))
    return six.take(np.array(fits, dtype=bool))


def degraded(rows: Rows, degrees: int, degrade: Degrade) -> Rows:
    """Columns 0 and 1, then each progressively degraded by removing key phrases; rows with too few are dropped."""
    groups, kept = [], []
    for i, (prompt, pair) in enumerate(zip(rows.prompts, rows.responses, strict=True)):
        first, second = (degrade(prompt, response, degrees) for response in pair)
        if first is not None and second is not None:
            groups.append([*pair, *first, *second])
            kept.append(i)
    if len(kept) < len(rows):
        log.warning("%d pairs have too few key phrases to degrade; left out", len(rows) - len(kept))
    left = rows.take(np.array(kept, dtype=int))
    writers = (*rows.writers, *(2 * degrees - 2) * ("degraded",))
    return replace(left, responses=objects(groups, width=2 * degrees), writers=writers)
