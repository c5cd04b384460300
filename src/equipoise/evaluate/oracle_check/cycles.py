"""Cyclic triples: how often three responses to a prompt beat each other in a circle, and what noise would give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np

from equipoise.core.calibration import side
from equipoise.core.intervals import clustered_share
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats

COIN = 0.25  # of the 8 outcomes of three coins, 2 are cycles


def cycles(comparisons: Comparisons, prob: Floats, flips: float | None = None) -> dict[str, Any] | None:
    """Cyclic triples among the responses to a prompt, three of which were all compared; None if there are none.

    prob   [N] P(a beats b), nan: no verdict (the triple is left out and counted). Repeated comparisons of two responses
           are averaged
    flips  how often two independent questions about the same pair get opposite verdicts, or None

    cyclic    share of the decided triples (no tie, no failure) in which each response beats the next, with an interval
              clustered by prompt
    expected  what would be seen without any true cycle, or by chance:
              coin   verdicts by coin flips, 1/4
              flips  a true order, and each verdict flipped with the same probability e: e (1 - e), where 2 e (1 - e) is
                     `flips` (e = 1/2 above 1/2)
              own    the oracle's probabilities as independent coins: mean P12 P23 P31 + P21 P32 P13
    """
    tables = _tables(comparisons, prob)
    cyclic: list[float] = []
    own: list[float] = []
    groups: list[Hashable] = []
    open_triples = tied = 0
    for group, table in tables.items():
        names = sorted({name for pair in table for name in pair})
        for x, y, z in combinations(names, 3):
            if not {(x, y), (y, z), (x, z)} <= table.keys():
                continue
            three = np.array([table[x, y], table[y, z], 1 - table[x, z]])
            if np.isnan(three).any():
                open_triples += 1
                continue
            own.append(float(three.prod() + (1 - three).prod()))
            sides = side(three)
            if (sides == 0).any():
                tied += 1
                continue
            cyclic.append(float(abs(sides.sum()) == 3))
            groups.append(group)
    if not own and not open_triples:
        return None
    error = None if flips is None else (1 - sqrt(max(0.0, 1 - 2 * flips))) / 2
    return {
        "cyclic": clustered_share(cyclic, groups) if cyclic else None,
        "triples": len(cyclic),
        "cycles": int(sum(cyclic)),
        "tied": tied,
        "failed": open_triples,
        "prompts": len(set(groups)),
        "expected": {
            "coin": COIN,
            "flips": None if error is None else error * (1 - error),
            "own": float(np.mean(own)) if own else None,
        },
    }


def _tables(comparisons: Comparisons, prob: Floats) -> dict[Hashable, dict[tuple[str, str], float]]:
    """Of each prompt, (text, text) in sorted order -> P(first beats second); nan if any of its comparisons is."""
    votes: dict[Hashable, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row, p in zip(comparisons.rows, prob, strict=True):
        swapped = row.b < row.a
        pair = (row.b, row.a) if swapped else (row.a, row.b)
        votes[row.group][pair].append(float(1 - p if swapped else p))
    return {g: {pair: float(np.mean(found)) for pair, found in table.items()} for g, table in votes.items()}
