"""Decoding in an exact game: temperature, top-k and top-p of a distribution over responses, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.play.decoding import AS_SET, PLAIN, Decode
from equipoise.worlds.table.enumeration import decoded

PROBS = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])


@pytest.mark.parametrize(
    "decode, wanted",
    [
        (PLAIN, PROBS),
        (Decode(top_k=2), [[5 / 8, 3 / 8, 0], [0.1, 0.1, 0.8]]),  # a tie at the cut stays whole
        (Decode(top_k=1), [[1, 0, 0], [0, 0, 1]]),
        (Decode(top_p=0.6), [[5 / 8, 3 / 8, 0], [0, 0, 1]]),
        (Decode(top_p=0.5), [[1, 0, 0], [0, 0, 1]]),
        (Decode(temperature=0.5), [[25 / 38, 9 / 38, 4 / 38], [1 / 66, 1 / 66, 64 / 66]]),
        (Decode(temperature=0.0), [[1, 0, 0], [0, 0, 1]]),
        (Decode(temperature=0.5, top_k=2), [[25 / 34, 9 / 34, 0], [1 / 66, 1 / 66, 64 / 66]]),
    ],
)
def test_a_distribution_is_cut_and_sharpened_as_tokens_are(decode, wanted):
    assert np.allclose(decoded(PROBS, decode), wanted, rtol=0, atol=1e-12)


def test_unset_decoding_touches_nothing():
    assert decoded(PROBS, AS_SET) is PROBS


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"need temperature|top_p must lie"):
        Decode(**wrong)
