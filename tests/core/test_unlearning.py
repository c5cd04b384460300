"""NPO, gradient ascent, SimNPO and D2O against the arithmetic of their papers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core.objectives import D2o, Dpo, GradientAscent, Npo, NpoKl, NpoRt, SimNpo
from equipoise.core.scores import TokenScores

LOG2 = math.log(2)


def wide(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def answers(logp: list[float], labels: list[float], reference: float = -10.0, length: float = 5.0) -> Scores:
    """One labelled response for each log-prob."""
    table = wide(logp)[:, None].requires_grad_()
    return Scores(
        logp=table,
        anchors={"reference": torch.full_like(table, reference, requires_grad=False)},
        length=torch.full_like(table, length, requires_grad=False),
        reward=wide(labels)[:, None],
    )


def slope(objective, scores: Scores) -> torch.Tensor:
    return torch.autograd.grad(objective(scores).value.sum(), scores.logp)[0][:, 0]


# NPO --------------------------------------------------------------------------------------------


def test_npo_by_hand():
    # beta = 1/2, log-ratio 2: (2 / 0.5) log(1 + e^1)
    losses = Npo(beta=0.5)(answers([-8.0], [0]))
    assert losses.value.item() == pytest.approx(4 * math.log1p(math.e))
    assert losses.metrics["log_ratio"].item() == 2.0


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_npo_is_2_over_beta_log_2_at_the_reference_and_never_negative(beta):
    at, far = Npo(beta=beta)(answers([-10.0, -4000.0], [0, 0])).value.tolist()
    assert at == pytest.approx(2 / beta * LOG2)
    assert far >= 0


def test_npo_is_dpo_with_the_winner_dropped_rescaled():
    scores = answers([-8.0, -13.0], [0, 0])
    pair = Scores(
        logp=torch.cat([torch.full_like(scores.logp, -10.0), scores.logp], dim=1),
        anchors={"reference": torch.full((2, 2), -10.0, dtype=torch.float64)},
    )
    assert torch.allclose(Npo(beta=0.3)(scores).value, 2 / 0.3 * Dpo(beta=0.3)(pair).value, rtol=1e-14)


def test_the_weight_of_an_example_is_2_sigma_and_fades_once_forgotten():
    beta, ratios = 0.4, [-30.0, -2.0, 0.0, 5.0]
    scores = answers([r - 10 for r in ratios], [0] * 4)
    # 2 pi^beta / (pi^beta + pi_ref^beta)
    expected = [2 * math.exp(beta * r) / (math.exp(beta * r) + 1) for r in ratios]
    assert slope(Npo(beta=beta), scores).tolist() == pytest.approx(expected)
    assert expected[2] == 1.0
    assert slope(Npo(beta=beta), scores)[0] < 1e-4


def test_npo_goes_to_the_log_ratio_and_its_gradient_to_gradient_ascent_as_beta_vanishes():
    beta, scores = 1e-4, answers([-8.0, -13.0, -10.5], [0] * 3)
    ratio = scores.log_ratio("reference")[:, 0]
    left = Npo(beta=beta)(scores).value - 2 / beta * LOG2
    # next term of (2/beta) log(1 + e^(beta x)): beta x^2/4; the difference of two numbers of size 2/beta loses
    # four digits. Of the gradient: 2 sigma(beta x) = 1 + beta x/2 + ...
    assert torch.allclose(left, ratio, rtol=0, atol=beta * 9 / 4 + 1e-10)
    assert torch.allclose(
        slope(Npo(beta=beta), scores), slope(GradientAscent(), scores), rtol=0, atol=1.5 * beta
    )
    assert torch.allclose(GradientAscent()(scores).value, ratio)
    assert slope(GradientAscent(), scores).tolist() == [1.0] * 3


def test_retained_responses_have_the_weight_of_their_nll_per_token_and_no_part_without_one():
    scores = answers([-8.0, -13.0], [0, 1])
    forget = Npo(beta=0.5)(scores).value
    assert forget[1].item() == 0
    both = NpoRt(beta=0.5)(scores).value
    assert both.tolist() == pytest.approx([forget[0].item(), 13.0 / 5])
    assert NpoRt(beta=0.5, retain=0.25)(scores).value[1].item() == pytest.approx(13.0 / 20)
    assert slope(NpoRt(retain=0.25), scores)[1].item() == pytest.approx(-0.25 / 5)
    assert GradientAscent(retain=2.0)(scores).value.tolist() == pytest.approx([2.0, 26.0 / 5])


def test_a_retained_response_weighs_the_same_whatever_its_length():
    """At 50 tokens a sum would be 50 times as strong as the mean that the coefficient 1 was tuned for."""
    short, long = answers([-5.0], [1], length=5.0), answers([-50.0], [1], length=50.0)
    assert NpoRt()(short).value.item() == NpoRt()(long).value.item() == 1.0


def test_a_response_without_a_length_counts_as_one_token():
    scores = replace(answers([-8.0, -13.0], [0, 1]), length=None)
    assert NpoRt(beta=0.5)(scores).value[1].item() == 13.0


def test_a_negative_beta_or_weight_is_refused():
    with pytest.raises(ValueError, match="beta must be a number >= 0"):
        Npo(beta=-0.1)
    with pytest.raises(ValueError, match="retain must be a number >= 0"):
        SimNpo(retain=-1.0)


# NPO and the reference's laws -------------------------------------------------------------------


def by_token(labels: list[float]) -> Scores:
    """A response of two tokens, log-ratio 2, divergences 0.3 and 0.5; and one of three, log-ratio -1, 0.2, 0.1, 0.6."""
    mask = torch.tensor([[[True, True, False]], [[True, True, True]]])
    logp = torch.tensor([[[-1.0, -2.0, 0.0]], [[-3.0, -1.0, -2.0]]], dtype=torch.float64).requires_grad_()
    reference = torch.tensor([[[-2.0, -3.0, 0.0]], [[-2.0, -1.0, -2.0]]], dtype=torch.float64)
    drift = torch.tensor([[[0.3, 0.5, 0.0]], [[0.2, 0.1, 0.6]]], dtype=torch.float64).requires_grad_()
    anchors, divergences = {"reference": reference}, {"reference": drift}
    tokens = TokenScores(logp=logp, mask=mask, anchors=anchors, divergences=divergences)
    return Scores.of_tokens(tokens, reward=wide(labels)[:, None])


def test_npo_kl_by_hand():
    losses = NpoKl(beta=0.5, retain=2.0)(by_token([0.0, 1.0]))
    assert losses.value.tolist() == pytest.approx([4 * math.log1p(math.exp(1)), 2 * (0.2 + 0.1 + 0.6) / 3])
    assert losses.metrics["drift"].tolist() == pytest.approx([0.4, 0.3])
    mixed = NpoKl(beta=0.5, retain=2.0)(by_token([0.25, 1.0])).value[0].item()
    assert mixed == pytest.approx(0.75 * 4 * math.log1p(math.exp(1)) + 0.25 * 2 * 0.4)


def test_what_is_retained_feels_the_laws_and_not_which_token_was_written():
    scores = by_token([0.0, 1.0])
    logp, drift = torch.autograd.grad(
        NpoKl(beta=0.5)(scores).value.sum(), [scores.tokens.logp, scores.tokens.divergences["reference"]]
    )
    assert logp[1].abs().sum() == 0 and drift[1].tolist() == [pytest.approx([1 / 3] * 3)]
    assert logp[0, 0, :2].tolist() == pytest.approx([2 / (1 + math.exp(-1))] * 2)
    assert drift[0].abs().sum() == 0


# SimNPO -----------------------------------------------------------------------------------------


def test_simnpo_by_hand():
    # mean token log-prob -2, beta 0.5, gamma 0.25: -(2/0.5) log sigma(1 - 0.25)
    value = SimNpo(beta=0.5, gamma=0.25)(answers([-10.0], [0])).value.item()
    assert value == pytest.approx(4 * math.log1p(math.exp(-0.75)))


def test_simnpo_sees_the_mean_token_and_no_reference():
    once, thrice = answers([-10.0], [0]), answers([-30.0], [0], length=15.0)
    objective = SimNpo(beta=0.5)
    assert objective(once).value.item() == pytest.approx(objective(thrice).value.item())
    assert objective(replace(once, anchors={})).value.equal(objective(once).value)
    # on the response's log-prob 2 sigma(beta lp + gamma)/|y|: a third for three times the length
    assert slope(objective, once).item() == pytest.approx(2 / (1 + math.exp(1.0)) / 5)
    assert slope(objective, thrice).item() == pytest.approx(slope(objective, once).item() / 3)


# D2O --------------------------------------------------------------------------------------------


def comparison(own: list[float], bad: float, seed: int = 0) -> Scores:
    """Own samples with these log-ratios around a bad response: columns own, bad, own, own, ..."""
    ratios = wide([own[0], bad, *own[1:]])[None]
    draw = torch.randn(1, len(own) + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logp = (draw + ratios).requires_grad_()
    return Scores(logp=logp, anchors=dict.fromkeys(("harmful", "helpful"), draw))


def test_d2o_by_hand():
    # beta/K (1 + 3 - 1) - alpha * 2 = 0.5 * 1 - 0.2 * 2 = 0.1
    losses = D2o(beta=0.5, alpha=0.2)(comparison([1.0, 3.0, -1.0], 2.0))
    assert losses.metrics["margin"].item() == pytest.approx(0.1)
    assert losses.value.item() == pytest.approx(math.log1p(math.exp(-0.1)))


def test_d2o_with_one_sample_is_dpo():
    scores = comparison([1.0], 2.0)
    pair = Scores(logp=scores.logp, anchors={"reference": scores.of("harmful")})
    assert D2o(beta=0.3, alpha=0.3)(scores).value.item() == pytest.approx(Dpo(beta=0.3)(pair).value.item())


def test_d2o_is_log_2_where_the_policy_is_both_references():
    assert D2o()(comparison([0.0] * 11, 0.0)).value.item() == pytest.approx(LOG2, abs=1e-15)


def test_d2o_is_the_same_in_any_order_of_the_samples():
    here = D2o(beta=0.5)(comparison([1.0, 3.0, -1.0], 2.0)).value.item()
    assert D2o(beta=0.5)(comparison([-1.0, 1.0, 3.0], 2.0)).value.item() == pytest.approx(here, rel=1e-12)


def test_each_term_has_its_own_reference():
    scores, shift = comparison([1.0, 3.0], 2.0), torch.ones(1, 3, dtype=torch.float64)
    objective = D2o(beta=0.5, alpha=0.2)
    for name, change in (("harmful", -0.5), ("helpful", 0.2)):
        moved = replace(scores, anchors={**scores.anchors, name: scores.of(name) + shift})
        margins = [objective(s).metrics["margin"].item() for s in (moved, scores)]
        assert margins[0] - margins[1] == pytest.approx(change)


def test_at_the_reference_the_samples_pull_nowhere_on_average():
    """Over all samples of the reference the gradient of the first term is a mean of scores, which is 0: only the bad
    response moves, by alpha/2 in its log-prob."""
    probs = wide([0.5, 0.2, 0.2, 0.1])
    logits = probs.log().requires_grad_()
    logp, bad, alpha = logits.log_softmax(dim=0), 2, 0.3
    first, second = torch.cartesian_prod(torch.arange(4), torch.arange(4)).unbind(dim=1)
    columns = torch.stack([first, torch.full_like(first, bad), second], dim=1)
    scores = Scores(logp=logp[columns], anchors=dict.fromkeys(("harmful", "helpful"), logp.detach()[columns]))
    weight = probs[first] * probs[second]
    loss = reduce.mean(D2o(beta=0.7, alpha=alpha)(scores).value, weight)
    (grad,) = torch.autograd.grad(loss, logits)
    pushed_down = alpha / 2 * (torch.eye(4, dtype=torch.float64)[bad] - probs)
    assert torch.allclose(grad, pushed_down, atol=1e-15)
