"""f-DPO: derivatives of the generators, limits, bounds of the reward, and the minimiser on a whole game."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core import divergence, reduce
from equipoise.core.objectives import AlphaDpo, Dpo, FDpo, ForwardKlDpo, JensenShannonDpo
from equipoise.core.objectives.f_dpo import paper_jensen_shannon
from equipoise.games.expectation import scores
from equipoise.games.fit import minimise

GENERATORS = {
    "reverse": divergence.REVERSE_KL,
    "forward": divergence.FORWARD_KL,
    "js": divergence.JENSEN_SHANNON,
    "chi": divergence.CHI_SQUARE,
    "tv": divergence.TOTAL_VARIATION,
    "alpha 0.3": divergence.alpha(0.3),
    "alpha 0.9": divergence.alpha(0.9),
}
FORMS = {
    "reverse": (FDpo, lambda lr: 1.0),
    "forward": (ForwardKlDpo, lambda lr: math.exp(-lr)),
    "js": (JensenShannonDpo, lambda lr: 1 / (1 + math.exp(lr))),
    "alpha": (lambda beta: AlphaDpo(beta=beta, alpha=0.4), lambda lr: math.exp(-0.4 * lr)),
}
each_form = pytest.mark.parametrize("build, weight", FORMS.values(), ids=FORMS)


@pytest.mark.parametrize("f", GENERATORS.values(), ids=GENERATORS)
def test_the_slope_is_the_derivative_of_f(f):
    u = torch.tensor([0.02, 0.4, 0.999, 1.5, 30.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f(u).sum(), u)
    assert torch.allclose(f.slope(u.detach().log()), slope, rtol=1e-11, atol=1e-12)


def test_jensen_shannon_is_twice_the_divergence_of_at_most_log_2():
    log_u = torch.linspace(-4, 4, 9, dtype=torch.float64)
    assert torch.allclose(
        paper_jensen_shannon(log_u), (2 * log_u.exp() / (1 + log_u.exp())).log(), rtol=1e-12
    )


@each_form
def test_gradient_weights_are_those_of_dpo_times_the_slope_of_the_reward(pairs, build, weight):
    for first, second in ((0.0, 0.0), (2.0, -1.0), (-3.0, 0.5)):
        given = pairs([first], [second], reference=(0.0, 0.0))
        losses = build(beta=0.5)(given)
        losses.value.sum().backward()
        miss = 1 / (1 + math.exp(losses.metrics["margin"].item()))
        assert given.logp.grad.tolist()[0] == pytest.approx(
            [-0.5 * miss * weight(first), 0.5 * miss * weight(second)], rel=1e-10
        )


def test_reverse_kl_is_dpo_bit_for_bit_where_no_rounding_comes_between(pairs):
    given = pairs([3.0, -7.0], [-1.0, 0.5], reference=(0.0, 0.0))
    assert FDpo(beta=0.5)(given).value.equal(Dpo(beta=0.5)(given).value)


@pytest.mark.parametrize("build, top", [(ForwardKlDpo, 0.0), (JensenShannonDpo, math.log(2))])
def test_the_reward_has_an_upper_bound(build, top):
    link = build(beta=1.0).link
    assert link(torch.tensor(60.0, dtype=torch.float64)).item() == pytest.approx(top, abs=1e-12)
    assert bool((link(torch.linspace(-5, 30, 50, dtype=torch.float64)) < top).all())


@pytest.mark.parametrize("alpha", [0.3, 0.9])
def test_the_reward_of_an_alpha_divergence_stays_below_one_over_alpha(alpha):
    far = divergence.alpha(alpha).slope(torch.tensor([5.0, 200.0], dtype=torch.float64))
    assert far[0] < far[1]
    assert far[1].item() == pytest.approx(1 / alpha)


def test_a_winner_far_ahead_is_pulled_no_more_and_a_lost_loser_as_the_divergence_says(pairs):
    for build, winner, loser in (
        (ForwardKlDpo, math.exp(-8.0), math.exp(8.0)),
        (JensenShannonDpo, 1 / (1 + math.exp(8.0)), 1 / (1 + math.exp(-8.0))),
        (FDpo, 1.0, 1.0),
    ):
        ratio = torch.tensor([8.0, -8.0], dtype=torch.float64, requires_grad=True)
        build(beta=1.0).link(ratio).sum().backward()
        assert ratio.grad.tolist() == pytest.approx([winner, loser], rel=1e-10)


@pytest.mark.parametrize("f", [divergence.CHI_SQUARE, divergence.TOTAL_VARIATION])
def test_divergences_that_allow_zeros_are_refused(f):
    with pytest.raises(ValueError, match="must rise and have no lower bound"):
        FDpo(link=f.slope)


def test_a_link_of_ones_own_is_taken(pairs):
    # f(u) = (u - 1) log u, Jeffreys: f' = log u + 1 - 1/u
    def jeffreys(log_u: torch.Tensor) -> torch.Tensor:
        return log_u + 1 - torch.exp(-log_u)

    given = pairs([1.0], [-1.0], reference=(0.0, 0.0))
    m = 0.5 * (2.0 - math.exp(-1) + math.exp(1))
    assert FDpo(beta=0.5, link=jeffreys)(given).value.item() == pytest.approx(math.log1p(math.exp(-m)))


@each_form
def test_on_a_whole_game_the_reward_is_read_off_the_minimiser(build, weight):
    """Bradley-Terry labels: f'(pi/pi_ref) = r/beta + c at the minimum, for every divergence."""
    beta, generator = 0.8, torch.Generator().manual_seed(3)
    reward, logits = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    reference = logits.log_softmax(0)[None]
    first, second = torch.triu_indices(4, 4, offset=1)
    responses, prompts = torch.stack([first, second], dim=1), torch.zeros(6, dtype=torch.long)
    prob = torch.sigmoid(reward[first] - reward[second])
    objective = build(beta=beta)
    best = minimise(
        objective,
        prompts,
        responses,
        torch.ones(6, dtype=torch.float64),
        prob,
        start=reference,
        anchors={"reference": reference},
    )
    link = FDpo(beta=beta).link if build is FDpo else getattr(objective, "link", divergence.alpha(0.4).slope)
    implied = beta * link((best - reference)[0]) - reward
    assert float(implied.max() - implied.min()) < 1e-8
    found = scores(best, {"reference": reference}, prompts, responses, prob)
    entropy = -(prob * prob.log() + (1 - prob) * (1 - prob).log())
    assert torch.allclose(reduce.expected(objective, found).value, entropy, rtol=0, atol=1e-9)
