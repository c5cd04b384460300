"""Paired statistics: Holm by hand, sign flips counted, the bootstrap against its closed form, ranks with ties."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.core.paired import holm, paired_interval, ranks, sign_flip_test


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.04, 0.5 of m = 4: 4 x 0.01, 3 x 0.02, 2 x 0.04, 1 x 0.5
    assert holm([0.04, 0.01, 0.5, 0.02]) == pytest.approx([0.08, 0.04, 0.5, 0.06])
    # 3 x 0.02 = 0.06, then 2 x 0.025 = 0.05, which may not fall below it; 1 x 0.9
    assert holm([0.025, 0.02, 0.9]) == pytest.approx([0.06, 0.06, 0.9])
    assert holm([0.7, 0.6]) == [1.0, 1.0] and holm([]) == []
    with pytest.raises(ValueError, match="p-values"):
        holm([1.2])


def test_sign_flips_are_counted() -> None:
    # all of one sign: only the observed pattern and its reverse are as extreme
    assert sign_flip_test([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]) == 2 / 32
    # d = (3, -1): |mean| of (+,+) 2 and 2; (+,-) is 4 and 4
    assert sign_flip_test([3, 0], [0, 1]) == 1.0
    # d = (3, 1): (+,+) and (-,-) of four patterns
    assert sign_flip_test([3, 1], [0, 0]) == 0.5
    assert sign_flip_test([1, 1], [1, 1]) == 1.0
    with pytest.raises(ValueError, match="equal numbers"):
        sign_flip_test([1.0], [1.0, 2.0])


def test_many_pairs_have_the_normal_p_value() -> None:
    draw = np.random.default_rng(3)
    gaps = draw.normal(0.15, 1.0, 200)
    z = gaps.sum() / np.sqrt((gaps**2).sum())  # the sum of signs times |d| is nearly normal
    from scipy.stats import norm

    assert sign_flip_test(gaps, np.zeros(200)) == pytest.approx(2 * norm.sf(abs(z)), abs=0.01)


def test_the_bootstrap_of_a_mean_is_its_standard_error() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.normal(0, 1, 150), draw.normal(0.3, 1, 150)
    gaps = first - second
    found = paired_interval(first, second, statistic=lambda values: float(np.mean(values)), draws=4000)
    half = 1.959964 * gaps.std() / np.sqrt(len(gaps))  # the bootstrap's own variance has no Bessel correction
    assert found["value"] == pytest.approx(gaps.mean())
    assert found["low"] == pytest.approx(gaps.mean() - half, abs=0.06 * half)
    assert found["high"] == pytest.approx(gaps.mean() + half, abs=0.06 * half)
    median = paired_interval([1, 2, 9], [0, 0, 0])
    assert (median["value"], median["low"], median["high"]) == (2, 1, 9)


def test_ranks_show_ties_as_ties() -> None:
    base = np.linspace(0.1, 0.3, 15)
    values = {"good": base, "same": base + np.tile([0.001, -0.001, 0.0], 5), "bad": base + 0.2}
    assert ranks(values) == {"good": 1, "same": 1, "bad": 3}
    few = {name: list(v[:5]) for name, v in values.items()}
    assert ranks(few) == {"good": 1, "same": 1, "bad": 1}  # five pairs cannot tell anyone apart
