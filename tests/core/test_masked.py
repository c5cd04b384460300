"""TDPO and SparsePO: masks and divergences token by token, on trees whose every response and law is enumerated."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch

from equipoise.core import Scores, divergence, reduce
from equipoise.core.objectives import Dpo, SparsePo, Tdpo, Tdpo1, Tdpo2
from equipoise.core.objectives.masked import masked_sums
from equipoise.core.scores import TokenScores
from equipoise.games import TokenPolicy, TokenTree

DOUBLE = torch.float64
TREE = TokenTree(words=("a", "b", "."), eos=2, length=3)
FIRST, SECOND = (x.flatten() for x in torch.meshgrid(*[torch.arange(len(TREE.responses))] * 2, indexing="ij"))


def policy_of(seed: int, size: float = 1.0) -> TokenPolicy:
    draw = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(1, *TREE.child.shape, generator=draw, dtype=DOUBLE)
    return TokenPolicy(TREE, logits.requires_grad_())


def drift_of(policy: TokenPolicy, reference: TokenPolicy) -> torch.Tensor:
    """[A, L] KL(pi_ref(.|y_<k) || pi(.|y_<k)) along every response."""
    kl = divergence.kl(reference.conditional().detach(), policy.conditional())
    return TREE.along(kl[..., None].expand(-1, -1, len(TREE.words)))[0]


def every_pair(policy: TokenPolicy, reference: TokenPolicy, *masks: float) -> Scores:
    """Every ordered pair of responses; `masks` are constants for m_u and m_d."""
    pair = torch.stack([FIRST, SECOND], dim=1)
    mask = TREE.mask[pair]
    names = ("utility", "divergence")
    return Scores.of_tokens(
        TokenScores(
            logp=policy.token_log_probs()[0][pair],
            mask=mask,
            anchors={"reference": reference.token_log_probs()[0][pair].detach()},
            divergences={"reference": drift_of(policy, reference)[pair]},
            weights={name: m * mask.to(DOUBLE) for name, m in zip(names, masks, strict=False)},
        )
    )


def random_masks(scores: Scores, seed: int = 0, kept: float = 0.5) -> Scores:
    draw = torch.Generator().manual_seed(seed)
    tokens = scores.tokens
    assert tokens is not None

    def mask() -> torch.Tensor:
        size = torch.rand(tokens.mask.shape, generator=draw, dtype=DOUBLE)
        on = torch.rand(tokens.mask.shape, generator=draw) < kept
        return (size * on).where(tokens.mask, 0)

    return replace(scores, tokens=replace(tokens, weights={"utility": mask(), "divergence": mask()}))


def slope(objective, scores: Scores, policy: TokenPolicy) -> torch.Tensor:
    return torch.autograd.grad(objective(scores).value.mean(), policy.logits, retain_graph=True)[0]


def largest(difference: torch.Tensor) -> float:
    return float(difference.detach().abs().max())


# the divergences --------------------------------------------------------------------------------------


def test_divergences_along_a_tree_are_those_of_its_laws():
    """Summed with the reference's probabilities over responses they are KL(pi_ref || pi) of whole responses."""
    policy, reference = policy_of(0), policy_of(1)
    drift = drift_of(policy, reference)
    weight = reference.tabular().probs()[0]
    whole = divergence.kl(reference.tabular().log_probs(), policy.tabular().log_probs())
    assert largest((weight * drift.sum(dim=1)).sum() - whole[0]) < 1e-14
    gain, kept = masked_sums(every_pair(policy, reference).by_token())
    assert largest(kept - drift.sum(dim=1)[torch.stack([FIRST, SECOND], dim=1)]) < 1e-14
    whole_ratio = (policy.tabular().log_probs() - reference.tabular().log_probs())[0]
    assert largest(gain[:, 0] - whole_ratio[FIRST]) < 1e-14


def test_loss_by_hand():
    """One pair: chosen of two tokens, rejected of one; beta = 2.

    lr = (.3, -.1 | .2), K = (.05, .1 | .4), m_u = (1, .5 | 2), m_d = (0, 1 | .5):
    U = .3 - .05 - .4 = -.15, D = .2 - .1 = .1, loss softplus(.5); norms .1 (1.5 + 2) + .01 (1 + .5).
    """
    mask = torch.tensor([[[True, True], [True, False]]])

    def laid(*values: float) -> torch.Tensor:
        return torch.zeros(mask.shape, dtype=DOUBLE).masked_scatter(mask, torch.tensor(values, dtype=DOUBLE))

    tokens = TokenScores(
        logp=laid(0.3, -0.1, 0.2),
        mask=mask,
        anchors={"reference": laid(0, 0, 0)},
        divergences={"reference": laid(0.05, 0.1, 0.4)},
        weights={"utility": laid(1, 0.5, 2), "divergence": laid(0, 1, 0.5)},
    )
    losses = SparsePo(beta=2.0, l1_u=0.1, l1_d=0.01)(Scores.of_tokens(tokens))
    want = torch.nn.functional.softplus(torch.tensor(0.5, dtype=DOUBLE)) + 0.35 + 0.015
    assert losses.value.item() == pytest.approx(want.item(), abs=1e-15)
    assert losses.metrics["margin"].item() == pytest.approx(-0.5, abs=1e-15)
    assert losses.metrics["kept"].item() == 1
    # TDPO2 with alpha .5: m = 2 (.2 - .2 - .5 (.4 - .15)) = -.25
    assert Tdpo2(beta=2.0, alpha=0.5)(Scores.of_tokens(tokens)).metrics["margin"].item() == pytest.approx(
        -0.25
    )


# identities and limits ----------------------------------------------------------------------------------


def test_masks_of_one_and_zero_are_dpo_and_masks_of_one_tdpo1_through_the_whole_law():
    """Rows 7 and 8 of the identity matrix: values, and gradients in the logits of every next-token law."""
    policy, reference = policy_of(0), policy_of(1)
    for masks, other in (((1.0, 0.0), Dpo(beta=0.3)), ((1.0, 1.0), Tdpo1(beta=0.3))):
        scores = every_pair(policy, reference, *masks)
        mine = SparsePo(beta=0.3, l1_u=0.0, l1_d=0.0)
        assert largest(mine(scores).value - other(scores).value) < 1e-14
        assert largest(slope(mine, scores, policy) - slope(other, scores, policy)) < 1e-15


@pytest.mark.parametrize("seed", range(3))
def test_at_the_reference_the_loss_is_log_2_and_the_norms_for_any_mask(seed: int):
    policy = policy_of(seed)
    scores = random_masks(every_pair(policy, policy), seed)
    c_u, c_d = 0.01, 0.003
    norms = sum(
        c * scores.tokens.weight(name).sum(dim=(1, 2)) for c, name in ((c_u, "utility"), (c_d, "divergence"))
    )
    value = SparsePo(beta=0.7, l1_u=c_u, l1_d=c_d)(scores).value
    assert largest(value - log(2) - norms) < 1e-15


def test_at_the_reference_divergences_have_no_gradient():
    policy = policy_of(3)
    scores = every_pair(policy, policy)
    whole = torch.autograd.grad(
        scores.tokens.divergence("reference").sum(), policy.logits, retain_graph=True
    )[0]
    assert largest(whole) < 1e-13  # a sum over all pairs
    assert largest(slope(Tdpo1(beta=0.3), scores, policy) - slope(Dpo(beta=0.3), scores, policy)) < 1e-15


def test_masks_of_zero_leave_no_gradient_in_the_policy():
    policy, reference = policy_of(0), policy_of(1)
    scores = every_pair(policy, reference, 0.0, 0.0)
    objective = SparsePo(beta=0.7, l1_u=0.1, l1_d=0.1)
    assert largest(objective(scores).value - log(2)) < 1e-15
    assert largest(slope(objective, scores, policy)) == 0
    assert objective(scores).metrics["kept"].max() == 0


def test_a_masked_token_has_no_gradient_and_the_others_do():
    policy, reference = policy_of(0), policy_of(1)
    scores = random_masks(every_pair(policy, reference))
    logp = scores.tokens.logp.detach().requires_grad_()
    moved = Scores.of_tokens(replace(scores.tokens, logp=logp))
    (grad,) = torch.autograd.grad(SparsePo(beta=0.5)(moved).value.sum(), logp)
    off = scores.tokens.weight("utility") == 0
    assert bool((grad[off] == 0).all()) and bool((grad[~off] != 0).all())


def test_a_learned_mask_has_the_gradient_of_the_margin_and_of_its_norm():
    """dL/dm_u = -+ s(-m) beta lr + c_u on chosen and rejected tokens."""
    policy, reference = policy_of(0), policy_of(1)
    scores = random_masks(every_pair(policy, reference))
    m_u = scores.tokens.weight("utility").clone().requires_grad_()
    weights = {**scores.tokens.weights, "utility": m_u}
    found = replace(scores, tokens=replace(scores.tokens, weights=weights))
    objective = SparsePo(beta=0.5, l1_u=0.02, l1_d=0.0)
    losses = objective(found)
    (grad,) = torch.autograd.grad(losses.value.sum(), m_u)
    pull = 0.5 * torch.sigmoid(-losses.metrics["margin"])[:, None, None]
    sign = torch.tensor([-1.0, 1.0], dtype=DOUBLE)[:, None]
    want = sign * pull * scores.tokens.log_ratio("reference") + 0.02 * m_u.sign()
    inside = scores.tokens.mask & (m_u > 0)
    assert largest(grad[inside] - want[inside]) < 1e-15


def test_tdpo2_holds_only_the_rejected_response_down():
    policy, reference = policy_of(0), policy_of(1)
    scores = every_pair(policy, reference)
    drift = scores.tokens.divergence("reference").detach().requires_grad_()
    found = replace(scores, tokens=replace(scores.tokens, divergences={"reference": drift}))
    beta, alpha = 0.3, 0.5
    losses = Tdpo2(beta=beta, alpha=alpha)(found)
    (grad,) = torch.autograd.grad(losses.value.sum(), drift)
    want = (alpha * beta * torch.sigmoid(-losses.metrics["margin"]))[:, None].expand(-1, TREE.length)
    assert largest(grad[:, 0]) == 0
    assert largest(grad[:, 1] - want) < 1e-16
    (both,) = torch.autograd.grad(Tdpo(beta=beta, alpha=alpha, still=False)(found).value.sum(), drift)
    there = Tdpo(beta=beta, alpha=alpha, still=False)(found).metrics["margin"]
    assert torch.equal(there, losses.metrics["margin"])
    assert largest(both[:, 0] + want) < 1e-16


def test_the_divergence_of_a_fixed_pair_is_what_masks_of_zero_leave_out():
    """Descent of one pair: with m_d = 1 the rejected response's laws end nearer to the reference than with m_d = 0."""

    def drift_after(masks: tuple[float, float]) -> float:
        reference = policy_of(1)
        policy = TokenPolicy(TREE, reference.logits.detach().clone().requires_grad_())
        for _ in range(40):
            scores = every_pair(policy, reference, *masks).take(torch.tensor([17]))
            step = torch.autograd.grad(SparsePo(beta=0.5)(scores).value.sum(), policy.logits)[0]
            policy = TokenPolicy(TREE, (policy.logits - step).detach().requires_grad_())
        return float(drift_of(policy, reference)[SECOND[17]].sum().detach())

    assert drift_after((1.0, 1.0)) < drift_after((1.0, 0.0))


def test_swapping_a_pair_swaps_its_masks_and_divergences():
    policy, reference = policy_of(0), policy_of(1)
    scores = random_masks(every_pair(policy, reference))
    objective = SparsePo(beta=0.5)
    turned = objective(reduce.swap(objective, scores))
    assert largest(turned.metrics["margin"] + objective(scores).metrics["margin"]) < 1e-15
    assert (
        scores.swap().tokens.divergence("reference")[:, 0].equal(scores.tokens.divergence("reference")[:, 1])
    )
    assert scores.take(torch.tensor([2])).tokens.weight("utility").equal(scores.tokens.weight("utility")[2:3])


def test_refusals(no_shape_types):
    scores = every_pair(policy_of(0), policy_of(1))
    with pytest.raises(ValueError, match="missing token weight 'utility' \\(available: none\\)"):
        SparsePo()(scores)
    bare = replace(scores, tokens=replace(scores.tokens, divergences={}))
    with pytest.raises(ValueError, match="missing divergence from the anchor 'reference'"):
        Tdpo1()(bare)
    with pytest.raises(ValueError, match="missing divergence from the anchor"):
        Tdpo1()(replace(scores, tokens=None))
    tokens = scores.tokens
    with pytest.raises(ValueError, match="weight 'a' outside the mask"):
        replace(tokens, weights={"a": torch.ones_like(tokens.logp)})
    with pytest.raises(ValueError, match="divergence 'a' has shape"):
        replace(tokens, divergences={"a": tokens.logp[:, :1]})
    for wrong in ({"beta": 0.0}, {"l1_u": -1.0}, {"l1_d": -1.0}):
        with pytest.raises(ValueError):
            SparsePo(**wrong)
    with pytest.raises(ValueError, match="alpha"):
        Tdpo2(alpha=-1.0)
