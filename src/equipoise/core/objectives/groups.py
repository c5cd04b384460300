"""Group statistics of responses to one prompt, invariant to a constant added to the group."""

from __future__ import annotations

from equipoise.core.dims import PerCandidate, PerComparison


def pair_squares(values: PerCandidate) -> PerComparison:
    """Mean squared difference over pairs, mean_{i<j} (v_i - v_j)^2, [B]: twice the unbiased variance of the group.

    Raises ValueError for fewer than two candidates.
    """
    _two_or_more(values)
    return 2 * values.var(dim=1)


def leave_one_out(values: PerCandidate) -> PerCandidate:
    """Leave-one-out baseline: v_i - mean of the others, [B, K]. Raises ValueError for fewer than two candidates."""
    _two_or_more(values)
    others = values.shape[1] - 1
    return (values - values.mean(dim=1, keepdim=True)) * ((others + 1) / others)


def _two_or_more(values: PerCandidate) -> None:
    if values.shape[1] < 2:
        raise ValueError(f"a group needs at least two responses, got {values.shape[1]}")
