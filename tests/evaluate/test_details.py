"""Lines of the logs that an evaluation keeps."""

from __future__ import annotations

import numpy as np

from equipoise.evaluate.details import feedback_lines, matrix_lines, pair_lines
from equipoise.evaluate.text import _rate


def test_pairs_keep_both_log_ratios_and_unpaired_feedback_one() -> None:
    (pair,) = pair_lines(2, np.array([[1.0, -0.5]]), np.array([7]), np.array([0.5]))
    assert pair == {"round": 2, "pair": 0, "prompt": 7, "chosen": 1.0, "rejected": -0.5, "ranked": 0.5}
    up, down = feedback_lines(1, np.array([0.25, -2.0]), np.array([True, False]))
    assert (up["chosen"], up["rejected"], down["chosen"], down["rejected"]) == (0.25, None, None, -2.0)


def test_a_win_rate_leaves_out_what_has_no_verdict() -> None:
    """Prompts 0 and 2 have the mean 0.75; prompt 1 has no verdict."""
    rate = _rate(np.array([[1.0, 0.5], [np.nan, np.nan], [1.0, 0.5]]))
    assert rate is not None and rate["value"] == 0.75 and rate["n"] == 4
    assert _rate(None) is None and _rate(np.full((2, 1), np.nan)) is None
    assert matrix_lines(3, [(1, rate)]) == [{"round": 3, "against": 1, "win_rate": rate}]
