"""Links: antisymmetry for all, inverses, and what each can and cannot represent."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.core import links

reward = st.floats(-8, 8)
RANDOM = torch.Generator().manual_seed(5)
EMBEDDINGS = torch.randn(6, 4, generator=RANDOM, dtype=torch.float64)
LAMBDAS = torch.tensor([0.5, 2.0], dtype=torch.float64)


def table(name: str) -> torch.Tensor:
    """P(a beats b) for all pairs of six responses."""
    r, v = EMBEDDINGS[:, 0], EMBEDDINGS
    if name == "bradley_terry":
        return links.bradley_terry(r[:, None], r[None, :])
    if name == "thurstone":
        return links.thurstone(r[:, None], r[None, :], sigma=0.7)
    return links.general_preference(v[:, None], v[None, :], LAMBDAS, temperature=0.3)


@pytest.mark.parametrize("name", ["bradley_terry", "thurstone", "general_preference"])
def test_antisymmetry(name):
    prob = table(name)
    assert torch.allclose(prob + prob.T, torch.ones_like(prob), rtol=0, atol=1e-15)
    assert bool((prob.diagonal() == 0.5).all())
    assert bool(((prob >= 0) & (prob <= 1)).all())


def test_values_by_hand():
    # odds 3 to 1
    assert links.bradley_terry(
        torch.tensor(math.log(3.0)).double(), torch.zeros(()).double()
    ).item() == pytest.approx(0.75)
    # a difference of one standard deviation of the difference, sqrt 2: Phi(1) = 0.841345
    a, b = torch.tensor(math.sqrt(2.0)).double(), torch.zeros(()).double()
    assert links.thurstone(a, b).item() == pytest.approx(0.8413447, abs=1e-7)
    # planes (1, 2), (3, 4) and strengths 0.5, 2: 0.5 * (1*4 - 2*3) = -1 and 2 * (5*8 - 6*7) = -4
    v_a, v_b = torch.tensor([1.0, 2.0, 5.0, 6.0]), torch.tensor([3.0, 4.0, 7.0, 8.0])
    assert links.skew_score(v_a, v_b, torch.tensor([0.5, 2.0])).item() == -5.0


def test_skew_score_is_the_bilinear_form_of_its_matrix():
    block = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    matrix = torch.block_diag(*(lam * block for lam in LAMBDAS))
    assert matrix.equal(-matrix.T)
    expected = (EMBEDDINGS @ matrix.T) @ EMBEDDINGS.T  # <R v_a, v_b>
    got = links.skew_score(EMBEDDINGS[:, None], EMBEDDINGS[None, :], LAMBDAS)
    assert torch.allclose(got, expected, atol=1e-14)


@given(margin=reward, sigma=st.floats(0.3, 3))
def test_inverses(margin, sigma):
    a, b = torch.tensor(margin, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    assert links.bradley_terry_margin(links.bradley_terry(a, b)).item() == pytest.approx(margin, abs=1e-11)
    if abs(margin) < 4 * sigma:  # beyond that Phi has no digits left next to 1
        back = links.thurstone_margin(links.thurstone(a, b, sigma=sigma), sigma=sigma)
        assert back.item() == pytest.approx(margin, abs=1e-9)


def test_margins_of_certain_preferences_are_infinite():
    certain = torch.tensor([0.0, 1.0])
    for inverse in (links.bradley_terry_margin, links.thurstone_margin):
        assert inverse(certain).tolist() == [-math.inf, math.inf]


def test_one_plane_with_a_constant_coordinate_is_bradley_terry():
    r = EMBEDDINGS[:, 0]
    v = torch.stack([r, torch.ones_like(r)], dim=-1)
    general = links.general_preference(v[:, None], v[None, :])
    assert torch.allclose(general, links.bradley_terry(r[:, None], r[None, :]), atol=1e-15)


def test_two_dimensions_hold_a_cycle_that_no_reward_can():
    angle = torch.arange(3, dtype=torch.float64) * 2 * math.pi / 3
    v = torch.stack([angle.cos(), angle.sin()], dim=-1)
    score = links.skew_score(v, v.roll(-1, dims=0))  # each against the next
    # sin(120 degrees) = sqrt(3)/2 on every edge of the cycle; rewards would have to sum to 0 round it
    assert torch.allclose(score, torch.full((3,), math.sqrt(3) / 2, dtype=torch.float64))


def test_rotating_a_plane_leaves_scores_unchanged():
    cos, sin = math.cos(0.7), math.sin(0.7)
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    rotated = torch.cat([EMBEDDINGS[:, :2] @ turn.T, EMBEDDINGS[:, 2:]], dim=1)
    before = links.skew_score(EMBEDDINGS[:, None], EMBEDDINGS[None, :], LAMBDAS)
    after = links.skew_score(rotated[:, None], rotated[None, :], LAMBDAS)
    assert torch.allclose(before, after, atol=1e-14)


def test_links_refuse(no_shape_types):
    v = torch.zeros(3)
    with pytest.raises(ValueError, match="even number of coordinates"):
        links.skew_score(v, v)
    with pytest.raises(ValueError, match="sigma must be a positive number"):
        links.thurstone(v, v, sigma=0.0)
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        links.general_preference(v[:2], v[:2], temperature=-1.0)
