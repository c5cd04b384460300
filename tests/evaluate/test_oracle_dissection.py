"""Preference dissection: planted weights are found, the sampler is exact, and texts show what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from equipoise.core.logistic import log_loss, sigmoid
from equipoise.data.errors import DataError
from equipoise.evaluate.oracle_check import Comparison, Comparisons
from equipoise.evaluate.oracle_check.dissection import dissection
from equipoise.evaluate.oracle_check.laplace_logistic import collapsed, maximum, sample, split_r_hat
from equipoise.evaluate.oracle_check.properties import PROPERTIES, difference, longer, repeated


@pytest.mark.slow
def test_one_weight_has_the_posterior_that_quadrature_gives():
    """x = 1 in 30 comparisons of which 22 are won, prior Laplace(0, 0.1)."""
    x, target = np.ones((30, 1)), np.repeat([1.0, 0.0], [22, 8])

    def density(w: float) -> float:
        score = np.full(30, w)
        return float(np.exp(-log_loss(score, target).sum() + 20 - abs(w) / 0.1))

    total = quad(density, -2, 3, points=[0])[0]
    mean = quad(lambda w: w * density(w), -2, 3, points=[0])[0] / total
    square = quad(lambda w: w * w * density(w), -2, 3, points=[0])[0] / total
    below = quad(density, -2, 0.1)[0] / total
    found = sample(x, target, draws=3000, warm_up=200)
    assert found.mean[0] == pytest.approx(mean, abs=0.01)
    assert found.draws.std() == pytest.approx(np.sqrt(square - mean**2), abs=0.01)
    assert (found.draws < 0.1).mean() == pytest.approx(below, abs=0.03)
    assert found.r_hat < 1.02


def test_the_short_cut_is_the_largest_density_and_its_zeros_are_exact():
    """KKT: |gradient| <= 1/scale at a zero, gradient = -sign(w)/scale elsewhere."""
    generator = np.random.default_rng(0)
    x = generator.integers(-1, 2, size=(300, 6)).astype(float)
    target = sigmoid(x @ np.array([1.0, -0.6, 0, 0, 0.05, 0]))
    w = maximum(x, target)
    gradient = x.T @ (sigmoid(x @ w) - target)
    assert (w == 0).any() and (w != 0).any()
    assert np.allclose(gradient[w != 0], -10 * np.sign(w[w != 0]), atol=1e-2)
    assert (np.abs(gradient[w == 0]) <= 10 + 1e-2).all()


@pytest.mark.slow
def test_planted_weights_are_recovered_within_their_credible_intervals():
    """Twelve properties, 600 comparisons, weights drawn from the prior: 95 % of the intervals hold them."""
    generator = np.random.default_rng(1)
    held = total = 0
    for seed in range(4):
        planted = generator.laplace(0, 0.3, 12)
        x = generator.integers(-1, 2, size=(600, 12)).astype(float)
        target = (generator.random(600) < sigmoid(x @ planted)).astype(float)
        found = sample(x, target, 0.3, warm_up=150, draws=250, seed=seed)
        held += int(((found.quantile(0.025) <= planted) & (planted <= found.quantile(0.975))).sum())
        total += 12
        assert found.r_hat < 1.1
        assert np.corrcoef(found.mean, maximum(x, target, 0.3))[0, 1] > 0.99
    assert held / total >= 0.88


def test_swapping_the_answers_of_any_comparison_changes_no_short_cut():
    generator = np.random.default_rng(2)
    x = generator.integers(-1, 2, size=(80, 3)).astype(float)
    target = generator.random(80)
    flips = np.where(generator.random(80) < 0.5, -1.0, 1.0)
    swapped = maximum(x * flips[:, None], np.where(flips > 0, target, 1 - target))
    assert swapped == pytest.approx(maximum(x, target), abs=1e-4)


def test_equal_and_swapped_comparisons_are_one_row():
    x = np.array([[1.0, -1], [-1, 1], [1, -1], [0, 1], [0, 0]])
    rows, wins, count = collapsed(x, np.array([1.0, 1, 0.25, 0.5, 1]))
    assert rows.tolist() == [[0, 0], [0, 1], [1, -1]]
    assert wins.tolist() == [1, 0.5, 1.25] and count.tolist() == [1, 1, 3]


def test_chains_that_disagree_are_not_called_converged():
    draws = np.random.default_rng(0).normal(size=(4, 200, 1)) + np.array([0.0, 0, 0, 3]).reshape(4, 1, 1)
    assert split_r_hat(draws) > 1.3
    assert split_r_hat(draws - np.array([0.0, 0, 0, 3]).reshape(4, 1, 1)) < 1.05


@pytest.mark.parametrize(
    ("shorter", "more", "expected"),
    [
        (0, 1, 1),
        (1, 2, 0),
        (1, 3, 1),
        (11, 18, 0),
        (11, 19, 1),
        (12, 18, 0),  # 12 <= 0.7 * 18 = 12.6, but only six more
        (14, 24, 1),
        (70, 90, 1),  # 70 <= 0.8 * 90, twenty more
        (80, 100, 1),
        (81, 100, 0),
        (360, 400, 1),
        (361, 401, 0),  # 361 > 0.9 * 401
    ],
)
def test_the_length_label_is_that_of_the_paper(shorter, more, expected):
    assert longer(more, shorter) == expected
    assert longer(shorter, more) == -expected


@pytest.mark.parametrize(
    ("name", "has", "has_not"),
    [
        ("lists", "Two:\n- one\n- two\n- three", "Two - one and two"),
        ("headings", "## Title\ntext", "Title #1"),
        ("bold", "a **bold** word", "2 ** 3"),
        ("code", "```python\nx = 1\n```", "no code, only words"),
        ("paragraphs", "one\n\ntwo\n\nthree", "one\ntwo"),
        ("numbers", "In 1969, 3 men", "In that year three men"),
        ("question asked", "Which one do you mean?", "Which one? This one."),
        ("exclamation", "Great!", "a != b"),
        ("first person", "I think it is my own", "It is its own"),
        ("second person", "You need your own", "They need theirs"),
        ("hedging", "It may perhaps be so", "It is so"),
        ("apology", "I'm sorry, no", "No"),
        ("refusal", "I cannot help with that", "It cannot be seen"),
        ("link", "see https://example.org", "see the example"),
        ("quotation", 'He said "yes" and "no"', "He said yes and no"),
        ("ends cut", "and then the", "and then they left."),
        ("empty", "  \n", "."),
        ("repetitive", "the cat sat on the cat sat on the cat sat", "a different sentence each time here"),
    ],
)
def test_a_text_that_has_a_property_has_more_of_it(name, has, has_not):
    kind = PROPERTIES[name]
    assert kind.amount(has) - kind.amount(has_not) > kind.band


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_two_texts_compare_and_swapping_them_negates_every_property(a, b):
    rows = Comparisons(rows=[compared(a, b)], left_out={})
    back = Comparisons(rows=[compared(b, a)], left_out={})
    (names, x), (others, y) = difference(rows), difference(back)
    assert names == others and (x == -y).all() and set(x.flatten()) <= {-1.0, 0.0, 1.0}


def test_repetition_by_hand():
    """a b c a b c: triples abc, bca, cab, abc: one of four has occurred before."""
    assert repeated("a b c a b c") == 0.25
    assert repeated("a b") == 0.0


def compared(a: str, b: str, k: int = 0, **columns: object) -> Comparison:
    return Comparison(
        prompt="What is it?", a=a, b=b, label=1.0, group=str(k), at=str(k), columns=dict(columns)
    )


def test_annotated_columns_are_properties_by_either_spelling():
    rows = [
        compared("x", "y", 0, chosen_clarity=3, rejected_clarity=1, safe_chosen=False, safe_rejected=True),
        compared("x", "y", 1, chosen_clarity=None, rejected_clarity=1, safe_chosen=True, safe_rejected=True),
    ]
    names, x = difference(Comparisons(rows=rows, left_out={}), ["clarity", "safe"])
    assert names == ["clarity", "safe"]
    assert x.tolist() == [[1.0, -1.0], [0.0, 0.0]]
    with pytest.raises(DataError, match="annotation depth: no pair has numbers"):
        difference(Comparisons(rows=rows, left_out={}), ["depth"])


@pytest.mark.slow
def test_an_oracle_that_likes_exclamation_marks_is_seen_to():
    generator = np.random.default_rng(0)
    rows = [compared("Yes!" if k % 2 else "Yes.", "Yes." if k % 2 else "Yes!", k) for k in range(200)]
    likes = np.where(np.arange(200) % 2, 0.9, 0.1)
    random = (generator.random(200) < 0.5).astype(float)
    some = random.copy()
    some[::3] = np.nan
    found = dissection(Comparisons(rows=rows, left_out={}), {"likes": likes, "random": random, "some": some})
    assert found["properties"] == ["exclamation"]
    assert found["raters"]["likes"]["low"][0] > 1 and found["raters"]["likes"]["converged"]
    assert found["raters"]["likes"]["held_out"]["value"] == 1.0
    assert found["raters"]["random"]["low"][0] < 0 < found["raters"]["random"]["high"][0]
    assert found["raters"]["some"]["n"] == 133
