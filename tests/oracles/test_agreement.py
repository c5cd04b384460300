"""What a policy says most often: clusters, and the pairs made of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from equipoise.oracles.learned.agreement import clusters, confident_pair, normalised, same_text


def test_texts_are_equal_up_to_case_punctuation_and_space():
    assert normalised("  Yes,\n it IS! ") == "yes it is"
    assert same_text("It's 4.", "its 4")
    assert not same_text("four", "4")


def test_clusters_follow_the_first_member():
    assert clusters(["b", "A", "a.", "B", "c"]) == [[0, 3], [1, 2], [4]]
    near = lambda a, b: abs(int(a) - int(b)) <= 1  # noqa: E731 - not transitive: 2 is near 1 but not near 0
    assert clusters(["0", "1", "2"], near) == [[0, 1], [2]]


def test_full_confidence_with_disagreement_keeps_nothing():
    assert confident_pair(["a"] * 9 + ["b"], [0.0] * 10, confidence=1.0) is None


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])
def test_identical_outputs_make_no_pair(confidence):
    assert confident_pair(["a"] * 10, list(range(10)), confidence) is None


def test_the_threshold_itself_is_kept():
    texts = ["a"] * 5 + ["b", "c", "d", "e", "f"]
    assert confident_pair(texts, [0.0] * 10, 0.5) == (0, [5, 6, 7, 8, 9])
    assert confident_pair(texts, [0.0] * 10, 0.51) is None


def test_the_cluster_is_by_agreement_and_its_member_by_reward():
    texts = ["x", "Best", "best.", "BEST", "y"]
    best, rest = confident_pair(texts, [9.0, 0.1, 0.3, 0.2, 8.0], 0.5)
    assert (best, rest) == (2, [0, 4])


def test_exact_match_is_majority_vote():
    draw = np.random.default_rng(0)
    for _ in range(50):
        texts = draw.choice(["a", "b", "c"], 7, p=[0.6, 0.3, 0.1]).tolist()
        (top, count), *others = Counter(texts).most_common()
        found = confident_pair(texts, draw.random(7).tolist(), 0.5)
        if count > 3.5 and others:
            assert texts[found[0]] == top
            assert [texts[i] for i in found[1]] == [t for t in texts if t != top]
        else:
            assert found is None


def test_a_share_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\], got 1.5"):
        confident_pair(["a", "b"], [0, 0], 1.5)
