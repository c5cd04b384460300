"""CPL: its limits are DPO's losses; what the bias is for; soft labels; ranked lists."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core import reduce
from equipoise.core.objectives import Cpl, CplKl, CplRanking, Dpo, ReferenceFreeDpo
from equipoise.core.scores import Scores


def drawn(candidates: int = 2, prob: torch.Tensor | None = None) -> Scores:
    draw = torch.Generator().manual_seed(3)
    logp = torch.randn(64, candidates, generator=draw, dtype=torch.float64) * 5 - 20
    reference = logp + torch.randn(64, candidates, generator=draw, dtype=torch.float64)
    length = torch.full_like(logp, 16.0)
    return Scores(logp=logp, anchors={"reference": reference}, length=length, prob=prob)


def test_swapping_a_pair_and_its_label_changes_nothing():
    label = torch.rand(64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = drawn(prob=label)
    for objective in (Cpl(bias=0.5), Cpl(bias=1.0, bc=1.0), CplKl()):
        here = reduce.expected(objective, scores).value
        torch.testing.assert_close(here, reduce.expected(objective, scores.swap()).value)


def test_a_tie_is_the_mean_of_both_orders():
    scores = drawn()
    tied = reduce.expected(Cpl(), drawn(prob=torch.full((64,), 0.5, dtype=torch.float64))).value
    torch.testing.assert_close(tied, (Cpl()(scores).value + Cpl()(scores.swap()).value) / 2)


def test_without_a_bias_a_constant_changes_nothing_and_with_one_it_does():
    scores = drawn()
    raised = Scores(logp=scores.logp + 3.0)
    torch.testing.assert_close(Cpl(bias=1.0)(scores).value, Cpl(bias=1.0)(raised).value)
    # likelier segments satisfy a biased pair the sooner
    assert bool((Cpl(bias=0.5)(raised).value < Cpl(bias=0.5)(scores).value).all())


def test_without_a_bias_it_is_dpo():
    scores = drawn()
    exact = {"rtol": 0.0, "atol": 1e-7}
    torch.testing.assert_close(CplKl(alpha=0.3, bias=1.0)(scores).value, Dpo(beta=0.3)(scores).value, **exact)
    torch.testing.assert_close(
        Cpl(alpha=0.3, bias=1.0)(scores).value, ReferenceFreeDpo(beta=0.3)(scores).value, **exact
    )


def test_behaviour_cloning_is_the_mean_likelihood_of_both():
    scores = drawn()
    more = Cpl(bias=1.0, bc=2.0)(scores).value - Cpl(bias=1.0)(scores).value
    torch.testing.assert_close(more, -2.0 * scores.logp.mean(dim=1) / 16)


def test_finite_at_scores_of_ten_thousand():
    scores = Scores(logp=torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True))
    value = Cpl(alpha=1.0, bias=1.0)(scores).value
    value.sum().backward()
    assert value.tolist() == [0.0, 2e4]
    assert scores.logp.grad is not None and bool(scores.logp.grad.isfinite().all())


def test_a_list_is_the_mean_of_its_ordered_pairs():
    scores = Scores(logp=drawn(4).logp, reward=torch.tensor([[3.0, 1.0, 1.0, 2.0]]).double().expand(64, 4))
    pairs = [(0, 1), (0, 2), (0, 3), (3, 1), (3, 2)]
    each = [Cpl()(Scores(logp=scores.logp[:, [i, j]])).value for i, j in pairs]
    torch.testing.assert_close(CplRanking()(scores).value, torch.stack(each).mean(dim=0))


def test_a_list_of_ties_has_no_loss():
    scores = Scores(logp=drawn(3).logp, reward=torch.ones(64, 3).double())
    assert bool((CplRanking()(scores).value == 0).all())


@pytest.mark.parametrize("bias", [0.0, 1.5, math.nan])
def test_refuses_a_bias_out_of_range(bias: float):
    with pytest.raises(ValueError, match="bias"):
        Cpl(bias=bias)
