"""Position bias: how much the order of the two answers decides an oracle's verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.core.calibration import side
from equipoise.core.intervals import clustered_mean, clustered_share
from equipoise.evaluate.oracle_check.asked import Verdicts
from equipoise.evaluate.oracle_check.comparisons import Comparisons

SAME = 1e-6  # how far two orders may differ by rounding


def order_bias(comparisons: Comparisons, verdicts: Verdicts) -> dict[str, Any]:
    """Position bias, of the comparisons that have a verdict in both orders; intervals clustered by prompt.

        bias = E[ P(1 > 2) + P(2 > 1) - 1 ] in [-1, 1],    P(1 > 2) that the answer shown first wins, in either order

    bias       0: none; above 0 the first place is favoured
    consistent share in which both orders prefer the same answer, or both tie
    position   share in which the place decides: each order prefers the answer in the same place. Of these `first` for
               the first place, `second` for the second; what remains is a tie in one order alone
    largest    largest |P(1 > 2) + P(2 > 1) - 1|; symmetric: it is nowhere above rounding
    Source: Zheng et al. 2023 (2306.05685) for consistency.
    """
    known = verdicts.answered
    groups = [g for g, kept in zip(comparisons.groups, known, strict=True) if kept]
    forth, back = verdicts.forth[known], verdicts.back[known]
    gap = np.where(np.abs(forth - back) > SAME, forth - back, 0.0)
    one, two = side(forth), side(back)
    first, second = (one > 0) & (two < 0), (one < 0) & (two > 0)
    largest = float(np.abs(forth - back).max())
    return {
        "bias": clustered_mean(gap, groups, bounds=(-1.0, 1.0)),
        "consistent": clustered_share((one == two).astype(float), groups),
        "position": clustered_share((first | second).astype(float), groups),
        "first": int(first.sum()),
        "second": int(second.sum()),
        "largest": largest,
        "symmetric": largest <= SAME,
        "n": int(known.sum()),
    }
