"""Objectives that read tokens, on trees whose every response is enumerated."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core.advantages import at_last, gae, implicit_reward, returns
from equipoise.core.objectives import Rloo
from equipoise.core.objectives.groups import leave_one_out
from equipoise.core.objectives.token_level import Ppo
from equipoise.core.scores import TokenScores
from equipoise.games import TokenPolicy, TokenTree, kl, rto_reward, soft_optimum, terminal_reward

DOUBLE = torch.float64
TREE = TokenTree(words=("a", "b", "."), eos=2, length=3)
MASK = TREE.mask[:, None]


def policy_of(seed: int, size: float = 1.0) -> TokenPolicy:
    draw = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(1, *TREE.child.shape, generator=draw, dtype=DOUBLE)
    return TokenPolicy(TREE, logits.requires_grad_())


def along(policy: TokenPolicy) -> torch.Tensor:
    """[A, 1, L]: every response is a comparison of its own."""
    return policy.token_log_probs()[0][:, None]


def scores_of(policy: TokenPolicy, previous: TokenPolicy, advantage: torch.Tensor) -> Scores:
    anchors = {"previous": along(previous).detach()}
    return Scores.of_tokens(
        TokenScores(logp=along(policy), mask=MASK, anchors=anchors, reward=advantage.detach())
    )


def slope(policy: TokenPolicy, previous: TokenPolicy, advantage: torch.Tensor, clip=0.2) -> torch.Tensor:
    """Gradient of the exact expectation over responses of `previous`, in the token logits."""
    weight = previous.tabular().probs()[0].detach()
    value = reduce.mean(Ppo(clip=clip)(scores_of(policy, previous, advantage)).value, weight)
    return torch.autograd.grad(value, policy.logits)[0]


def exact_values(policy: TokenPolicy, reward: torch.Tensor) -> torch.Tensor:
    """[A, 1, L] V(y_<k) for a reward table [1, S, V]: V(s) = sum_v pi(v|s) (r(s, v) + V(s v))."""
    probs, count = policy.conditional().exp()[0].detach(), len(TREE.prefixes)
    value = torch.zeros(count + len(TREE.responses), dtype=DOUBLE)
    for s in reversed(range(count)):
        value[s] = (probs[s] * (reward[0, s] + value[TREE.child[s]])).sum()
    table = value[:count, None].expand(count, len(TREE.words))
    return TREE.along(table[None])[0][:, None]


def largest(difference: torch.Tensor) -> float:
    return float(difference.detach().abs().max())


# the scores ---------------------------------------------------------------------------------------------


def test_sums_over_tokens_are_the_scores_of_responses():
    policy, previous = policy_of(0), policy_of(1)
    scores = scores_of(policy, previous, along(previous))
    assert largest(scores.logp[:, 0] - policy.tabular().log_probs()[0]) < 1e-14
    assert largest(scores.of("previous")[:, 0] - previous.tabular().log_probs()[0]) < 1e-14
    assert scores.length[:, 0].tolist() == TREE.lengths.tolist()
    assert scores.by_token() is scores.tokens
    assert largest(scores.rewards() - scores.of("previous")) == 0
    assert largest(scores.tokens.log_ratio("previous").sum(dim=2) - scores.log_ratio("previous")) < 1e-14


def test_without_tokens_a_response_is_one_token():
    scores = Scores(
        logp=torch.tensor([[-1.0, -2.0]]),
        anchors={"previous": torch.tensor([[-1.5, -2.5]])},
        reward=torch.tensor([[1.0, 0.0]]),
    )
    tokens = scores.by_token()
    assert tokens.logp.tolist() == [[[-1.0], [-2.0]]] and tokens.mask.all()
    assert tokens.of("previous").tolist() == [[[-1.5], [-2.5]]]
    assert tokens.rewards().tolist() == [[[1.0], [0.0]]]


def test_tokens_follow_their_responses():
    tokens = TokenScores(
        logp=torch.arange(12.0).view(2, 3, 2) + 1,
        mask=torch.ones(2, 3, 2, dtype=torch.bool),
        anchors={"a": -torch.arange(12.0).view(2, 3, 2)},
    )
    scores = Scores.of_tokens(tokens, prob=torch.tensor([0.3, 1.0]))
    turned = scores.swap()
    assert turned.tokens.logp.sum(dim=2).equal(turned.logp)
    assert turned.tokens.of("a")[:, 0].equal(tokens.of("a")[:, 1])
    assert scores.take(torch.tensor([1])).tokens.logp.equal(tokens.logp[1:])
    assert turned.tokens.logp[:, 2].equal(tokens.logp[:, 2])


def test_refusals(no_shape_types):
    logp, mask = torch.tensor([[[-1.0, 0.0]]]), torch.tensor([[[True, False]]])
    with pytest.raises(ValueError, match="comparisons, candidates, tokens"):
        TokenScores(logp=logp[0], mask=mask[0])
    with pytest.raises(ValueError, match="mask has shape"):
        TokenScores(logp=logp, mask=mask[..., :1])
    with pytest.raises(ValueError, match="reward has shape"):
        TokenScores(logp=logp, mask=mask, reward=logp[0])
    with pytest.raises(ValueError, match="outside the mask"):
        TokenScores(logp=logp - 1, mask=mask)
    with pytest.raises(ValueError, match="'a' requires a gradient"):
        TokenScores(logp=logp, mask=mask, anchors={"a": logp.clone().requires_grad_()})
    with pytest.raises(KeyError, match=r"missing anchor 'b' \(available: a\)"):
        TokenScores(logp=logp, mask=mask, anchors={"a": logp}).of("b")
    with pytest.raises(ValueError, match="tokens have shape"):
        Scores(logp=torch.zeros(1, 2), tokens=TokenScores(logp=logp, mask=mask))
    with pytest.raises(ValueError, match="a reward for every token"):
        Ppo()(Scores.of_tokens(TokenScores(logp=logp, mask=mask, anchors={"previous": logp})))
    with pytest.raises(ValueError, match="clip"):
        Ppo(clip=1.0)
    assert Ppo().reads.tokens and not Rloo().reads.tokens


# PPO ----------------------------------------------------------------------------------------------------


def test_clipping_by_hand():
    """Ratios 1.5, .5, 1.1 of one response and .7 of another, clip .2, advantages 1, 2, -1 and -3:

    min(1.5, 1.2) + min(1, 1.6) + min(-1.1, -1.1) = 1.1, min(-2.1, -2.4) = -2.4: loss (-1.1 + 2.4)/2 = .65.
    The gradient in log pi is -A rho/2 where the ratio itself counts and 0 where the clip does: 1 and 4.
    """
    ratios = torch.tensor([[[1.5, 0.5, 1.1], [0.7, 1.0, 1.0]]], dtype=DOUBLE)
    logp = ratios.log().requires_grad_()
    advantage = torch.tensor([[[1.0, 2.0, -1.0], [-3.0, 0.0, 0.0]]], dtype=DOUBLE)
    mask = torch.tensor([[[True, True, True], [True, False, False]]])
    tokens = TokenScores(logp=logp, mask=mask, anchors={"previous": torch.zeros_like(logp)}, reward=advantage)
    losses = Ppo(clip=0.2)(Scores.of_tokens(tokens))
    assert losses.value.item() == pytest.approx(0.65, abs=1e-15)
    (grad,) = torch.autograd.grad(losses.value.sum(), logp)
    assert grad.flatten().tolist() == pytest.approx([0, -0.5, 0.55, 0, 0, 0], abs=1e-15)
    assert losses.metrics["clipped"].item() == 2 / 4


def test_one_token_is_the_clipped_surrogate_of_responses():
    """At pi_t its gradient is RLOO's, the leave-one-out mean being the baseline; further on it is clipped."""
    draw = torch.Generator().manual_seed(0)
    logp, reference, reward = (torch.randn(5, 4, generator=draw, dtype=DOUBLE) for _ in range(3))
    tau = 0.3
    advantage = leave_one_out(reward - tau * (logp - reference))
    here = Scores(logp=logp.clone().requires_grad_(), anchors={"previous": logp}, reward=advantage)
    there = Scores(logp=logp.clone().requires_grad_(), anchors={"reference": reference}, reward=reward)
    grads = [
        torch.autograd.grad(o(s).value.sum(), s.logp)[0] for o, s in ((Ppo(), here), (Rloo(tau=tau), there))
    ]
    assert largest(grads[0] - grads[1]) < 1e-15

    moved = replace(here, logp=logp + 0.4)  # every ratio 1.49: what may not rise further is cut at 1.2
    ratio, cut = math.exp(0.4), 1.2
    by_hand = -torch.where(advantage > 0, advantage * cut, advantage * ratio).mean(dim=1)
    assert largest(Ppo()(moved).value - by_hand) < 1e-14


def test_at_the_start_the_gradient_is_the_policy_gradient_with_gae():
    """Any values, right or wrong: -E_y sum_k A_k grad log pi(y_k|y_<k), by one backward pass per token."""
    policy = policy_of(0)
    draw = torch.Generator().manual_seed(5)
    reward, value = (torch.randn(*MASK.shape, generator=draw, dtype=DOUBLE).where(MASK, 0) for _ in range(2))
    advantage = gae(reward, value, lam=0.7)
    probs, logps = policy.tabular().probs()[0].detach(), along(policy)[:, 0]
    by_hand = torch.zeros_like(policy.logits)
    for y, length in enumerate(TREE.lengths):
        for k in range(int(length)):
            (score,) = torch.autograd.grad(logps[y, k], policy.logits, retain_graph=True)
            by_hand -= probs[y] * advantage[y, 0, k] * score
    assert largest(slope(policy, policy, advantage) - by_hand) < 1e-15


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_with_exact_values_any_lambda_gives_the_gradient_of_the_regularised_return(lam):
    """E_pi R - tau KL(pi||ref), differentiated as a whole; a wrong value does the same only with lambda = 1."""
    policy, reference, tau = policy_of(0), policy_of(1), 0.3
    sentence = torch.randn(1, len(TREE.responses), generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    charge = tau * (policy.conditional() - reference.conditional()).detach()
    shaped = terminal_reward(TREE, sentence) - charge
    reward = at_last(sentence[0][:, None], MASK) - tau * (along(policy) - along(reference)).detach()
    assert (
        largest(reward - TREE.along(shaped)[0][:, None]) < 1e-14
    )  # the same reward, from tables and from tokens

    truth = (policy.tabular().probs() * sentence).sum() - tau * kl(
        policy.tabular(), reference.tabular()
    ).sum()
    (want,) = torch.autograd.grad(-truth, policy.logits)
    got = slope(policy, policy, gae(reward, exact_values(policy, shaped), lam=lam))
    assert largest(got - want) < 1e-14
    wrong = slope(policy, policy, gae(reward, torch.ones(1).double() * MASK, lam=lam))
    assert (largest(wrong - want) < 1e-14) == (lam == 1.0)


# RTO ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta1, beta2", [(0.05, 0.01), (0.3, 0.3), (0.1, 0.4)])
def test_the_gradient_of_rto_vanishes_at_its_optimum_and_only_there(beta1, beta2):
    """pi ~ ref (pi_dpo/ref)^(beta1/beta2) over responses; equal betas give back the teacher."""
    teacher, reference = policy_of(3, size=0.7), policy_of(4, size=0.7)
    base, taught = reference.tabular().log_probs().detach(), teacher.tabular().log_probs().detach()
    law = (base + beta1 / beta2 * (taught - base)).softmax(dim=1)
    dense = rto_reward(teacher, reference, beta=beta1, clip=None)
    optimum = soft_optimum(reference, dense, beta=beta2).policy
    assert largest(optimum.tabular().probs() - law) < 1e-12
    if beta1 == beta2:
        assert largest(optimum.tabular().probs() - taught.exp()) < 1e-12

    def expected(policy: TokenPolicy) -> float:
        reward = implicit_reward(along(teacher), along(reference), beta=beta1, clip=None).detach()
        reward = reward - beta2 * (along(policy) - along(reference)).detach()
        return largest(slope(policy, policy, returns(reward)))

    assert expected(TokenPolicy(TREE, optimum.logits.detach().requires_grad_())) < 1e-14
    assert expected(policy_of(4, size=0.7)) > 1e-4


def test_gradient_steps_with_token_rewards_arrive_at_the_optimum():
    teacher, reference, beta = policy_of(3, size=0.5), policy_of(4, size=0.5), 0.5
    reward = implicit_reward(along(teacher), along(reference), beta=beta, clip=None).detach()
    policy, base = reference, along(reference).detach()
    for _ in range(60):
        shaped = reward - beta * (along(policy).detach() - base)
        step = slope(policy, policy, returns(shaped))
        policy = TokenPolicy(TREE, (policy.logits - 10 * step).detach().requires_grad_())
    assert largest(policy.tabular().probs() - teacher.tabular().probs()) < 1e-3
    assert largest(reference.tabular().probs() - teacher.tabular().probs()) > 0.05


def test_a_clip_comes_after_the_scale_and_changes_the_optimum():
    teacher, reference, beta, cap = policy_of(3), policy_of(4), 0.05, 0.02
    table = rto_reward(teacher, reference, beta=beta, clip=cap)
    mine = implicit_reward(along(teacher), along(reference), beta=beta, clip=cap)
    assert largest(TREE.along(table)[0][:, None] - mine) < 1e-16
    first_clipped = beta * (along(teacher) - along(reference)).clamp(-cap, cap)
    assert largest(mine - first_clipped) > 0.01
    whole = along(teacher).sum(dim=2) - along(reference).sum(dim=2)
    free = implicit_reward(along(teacher), along(reference), beta=beta, clip=None)
    assert largest(free.sum(dim=2) - beta * whole) < 1e-15  # telescopes to DPO's implicit reward
    assert largest(mine.sum(dim=2) - beta * whole) > 0.01
