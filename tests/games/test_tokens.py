"""Token trees: whole responses against token by token, both by enumeration."""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt

import pytest
import torch
from scipy.optimize import brentq

from equipoise.core import reduce
from equipoise.core.divergence import estimate
from equipoise.core.divergence import kl as divergence
from equipoise.core.objectives import Inpo, Ipo, IpoMean
from equipoise.games import (
    PreferenceGame,
    TabularPolicy,
    TokenPolicy,
    TokenTree,
    enumerate_pairs,
    gap_tau,
    kl,
    regularised_nash,
    rto_reward,
    scores,
    soft_optimum,
    terminal_reward,
    zoo,
)
from equipoise.games import closed_form as step
from equipoise.games.expectation import loss

DOUBLE = torch.float64
TREE = TokenTree(words=("a", "b", "."), eos=2, length=3)


def policy_of(tree: TokenTree, seed: int, prompts: int = 2) -> TokenPolicy:
    """Random logits that carry a gradient."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(prompts, *tree.child.shape, generator=generator, dtype=DOUBLE)
    return TokenPolicy(tree, logits.requires_grad_())


def fixed(tree: TokenTree, *rows: list[float]) -> TokenPolicy:
    """One prompt, next-token probabilities by hand, one row per prefix."""
    return TokenPolicy(tree, torch.tensor([rows], dtype=DOUBLE).log().requires_grad_())


def largest(difference: torch.Tensor) -> float:
    return difference.detach().abs().max().item()


def test_a_tree_written_out():
    tree = TokenTree(words=("a", "b", "."), eos=2, length=2)
    assert tree.prefixes == ((), (0,), (1,))
    assert tree.names == (".", "a a", "a b", "a .", "b a", "b b", "b .")
    assert tree.lengths.tolist() == [1] + [2] * 6 == tree.mask.sum(dim=1).tolist()
    assert tree.child.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert tree.levels == (slice(0, 1), slice(1, 3))
    assert TokenTree(words=("a", "b"), length=2).names == ("a a", "a b", "b a", "b b")
    assert len(TREE.responses) == 1 + 2 + 4 * 3 and len(TREE.prefixes) == 1 + 2 + 4


def test_an_expansion_by_hand():
    tree = TokenTree(words=("a", "."), eos=1, length=2)
    policy = fixed(tree, [0.6, 0.4], [0.3, 0.7])
    assert dict(zip(tree.names, policy.tabular().probs()[0].tolist(), strict=True)) == pytest.approx(
        {".": 0.4, "a a": 0.18, "a .": 0.42}, abs=1e-15
    )
    expected = torch.tensor([[[0.4, 1], [0.6, 0.3], [0.6, 0.7]]], dtype=DOUBLE).log()
    assert largest(policy.token_log_probs() - expected) < 1e-15


@pytest.mark.parametrize("eos", [2, None])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_an_expansion_is_a_distribution_and_comes_back(length, eos):
    tree = TokenTree(words=("a", "b", "."), eos=eos, length=length)
    policy = policy_of(tree, seed=length)
    # exponentiated before TabularPolicy could normalise it
    assert largest(policy.token_log_probs().sum(dim=2).exp().sum(dim=1) - 1) < 1e-14
    assert not policy.token_log_probs()[:, ~tree.mask].any()
    again = TokenPolicy.from_sequences(tree, policy.tabular())
    assert largest(again.conditional() - policy.conditional()) < 1e-13

    table = TabularPolicy(torch.randn(2, len(tree.responses), dtype=DOUBLE))
    assert largest(TokenPolicy.from_sequences(tree, table).tabular().probs() - table.probs()) < 1e-14


def test_conditionals_are_ratios_of_prefix_probabilities():
    tree = TokenTree(words=("a", "b", "."), eos=2, length=2)
    probs = [0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0]  # nothing starts with b
    table = TabularPolicy.from_probs([p / 0.6 for p in probs])
    found = TokenPolicy.from_sequences(tree, table)
    expected = torch.tensor([[5 / 6, 0, 1 / 6], [0.4, 0.6, 0], [1 / 3] * 3], dtype=DOUBLE)
    assert largest(found.conditional()[0].exp() - expected) < 1e-14
    assert largest(found.tabular().probs() - table.probs()) < 1e-14


def test_gradients_flow_through_the_expansion():
    policy = policy_of(TREE, seed=0, prompts=1)

    def expand(logits):
        return TokenPolicy(TREE, logits).tabular().log_probs()

    assert torch.autograd.gradcheck(expand, (policy.logits,))


def test_refusals():
    with pytest.raises(ValueError, match="distinct"):
        TokenTree(words=("a", "a"), length=2)
    with pytest.raises(ValueError, match="length must"):
        TokenTree(words=("a",), length=0)
    with pytest.raises(ValueError, match="eos must"):
        TokenTree(words=("a", "b"), length=2, eos=2)
    with pytest.raises(ValueError, match="1048576 responses"):
        TokenTree(words=tuple("abcd"), length=10)
    with pytest.raises(ValueError, match="7 prefixes, 3 words"):
        TokenPolicy(TREE, torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match=r"prompt 0 after \(0,\)"):
        TokenPolicy(TREE, torch.zeros(1, 7, 3).index_fill(1, torch.tensor(1), float("-inf")))
    with pytest.raises(ValueError, match="15"):
        TokenPolicy.from_sequences(TREE, TabularPolicy.from_probs([0.5, 0.5]))
    policy, other = policy_of(TREE, 0), policy_of(TokenTree(words=("x", "y"), length=2), 0)
    with pytest.raises(ValueError, match="on the same tree"):
        policy.token_geometric(other, 0.5)
    with pytest.raises(ValueError, match="weight must"):
        policy.token_geometric(policy, 1.5)
    with pytest.raises(ValueError, match="beta must"):
        soft_optimum(policy, torch.zeros(2, 7, 3), beta=0.0)
    with pytest.raises(ValueError, match="finite"):
        soft_optimum(policy, torch.full((2, 7, 3), float("inf")), beta=1.0)
    with pytest.raises(ValueError, match="reward must"):
        terminal_reward(TREE, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="on the same tree"):
        rto_reward(policy, other, beta=1.0, clip=None)
    with pytest.raises(ValueError, match="clip positive"):
        rto_reward(policy, policy, beta=1.0, clip=0.0)
    never = TokenPolicy(TREE, torch.zeros(2, 7, 3).index_fill(2, torch.tensor(0), float("-inf")))
    with pytest.raises(ValueError, match="probability 0"):
        rto_reward(never, policy, beta=1.0, clip=0.1)


# ---- what the sequence formulas say about a token policy ------------------------------------------------


def test_sequence_formulas_hold_for_token_policies():
    size = len(TREE.responses)
    matrix = zoo.random(size, 0).preference[0]
    game = PreferenceGame(matrix, policy_of(TREE, 1, prompts=1).tabular().probs(), names=TREE.names)
    nash = TokenPolicy.from_sequences(TREE, regularised_nash(game, 0.2))
    assert abs(gap_tau(game, nash.tabular(), 0.2).item()) < 1e-12

    # INPO's exact loss, descended in token logits: stationary at the closed form, and only there
    previous = policy_of(TREE, 2, prompts=1).tabular()
    target = step.inpo_step(game, previous, eta=0.5, tau=0.1)
    anchors = {"reference": game.initial().log_probs(), "previous": previous.log_probs()}
    rows = enumerate_pairs(game, previous.probs().detach())

    def slope(policy: TokenPolicy) -> float:
        logits = policy.logits.detach().requires_grad_()
        table = TokenPolicy(TREE, logits).tabular().log_probs()
        loss(Inpo(eta=0.5, tau=0.1), table, anchors, rows).backward()
        return logits.grad.norm().item()

    assert slope(TokenPolicy.from_sequences(TREE, target)) < 1e-12
    assert slope(policy_of(TREE, 3, prompts=1)) > 0.1


# ---- the KL of sequences and the tokens that carry it ---------------------------------------------------


def charged(policy: TokenPolicy, cost: torch.Tensor) -> torch.Tensor:
    """E_{y~pi} sum_k sg[cost_k(y)] grad log pi(y_k|y_<k): each token pays its own cost."""
    probs, logps = policy.tabular().probs().detach(), policy.token_log_probs()
    return torch.autograd.grad((probs * (cost.detach() * logps).sum(dim=2)).sum(), policy.logits)[0]


def kl_gradient(policy: TokenPolicy, reference: TokenPolicy) -> torch.Tensor:
    total = kl(policy.tabular(), reference.tabular()).sum()
    return torch.autograd.grad(total, policy.logits)[0]


def test_a_token_answers_for_what_follows_it():
    """Two binary tokens. The first is a with probability .7 (reference .6); then come

        after a   (.9, .1), reference (.1, .9):  KL_a = .8 log 9               = 1.757780
        after b   (.4, .6), reference (.8, .2):  KL_b = .4 log .5 + .6 log 3   =  .381909

    d KL / d logit(a) = .7 * .3 * [ (log .7/.6 - log .3/.4) + (KL_a - KL_b) ] = .092785 + .288933: the own
    log-ratio of the first token is a quarter of the truth.
    """
    tree = TokenTree(words=("a", "b"), length=2)
    policy = fixed(tree, [0.7, 0.3], [0.9, 0.1], [0.4, 0.6])
    reference = fixed(tree, [0.6, 0.4], [0.1, 0.9], [0.8, 0.2])
    ratio = policy.token_log_probs() - reference.token_log_probs()

    own, truth = charged(policy, ratio)[0, 0, 0].item(), kl_gradient(policy, reference)[0, 0, 0].item()
    print(f"first-token gradient: own log-ratio {own:.6f}, sequence KL {truth:.6f}")
    by_hand = 0.21 * (log(0.7 / 0.6) - log(0.3 / 0.4))
    future = 0.21 * (0.8 * log(9) - (0.4 * log(0.5) + 0.6 * log(3)))
    assert own == pytest.approx(by_hand, abs=1e-14) == pytest.approx(0.092785, abs=5e-7)
    assert truth == pytest.approx(by_hand + future, abs=1e-14) == pytest.approx(0.381718, abs=5e-7)
    # the last token has no future: there the two agree
    assert largest((charged(policy, ratio) - kl_gradient(policy, reference))[0, 1:]) < 1e-14


@pytest.mark.parametrize("seed", range(3))
def test_future_and_total_log_ratios_give_the_gradient_of_the_kl(seed):
    policy, reference = policy_of(TREE, seed), policy_of(TREE, seed + 10)
    ratio = (policy.token_log_probs() - reference.token_log_probs()).detach()
    total = ratio.sum(dim=2, keepdim=True)
    future = total - ratio.cumsum(dim=2) + ratio  # sum over j >= k
    truth = kl_gradient(policy, reference)
    assert largest(charged(policy, future) - truth) < 1e-14
    # the past is a constant for a token, and the score has mean zero: charging it too changes nothing
    assert largest(charged(policy, total.expand_as(ratio)) - truth) < 1e-14
    assert largest(charged(policy, ratio) - truth) > 0.05


def test_k2_per_token_is_the_product_form_and_k2_per_sequence_the_kl():
    policy, reference = policy_of(TREE, 0), policy_of(TREE, 10)
    probs, logps = policy.tabular().probs().detach(), policy.token_log_probs()
    base = reference.token_log_probs().detach()
    by_token = (probs * estimate(logps, base, "k2").sum(dim=2)).sum()
    whole = (probs * estimate(logps.sum(dim=2), base.sum(dim=2), "k2")).sum()
    slopes = [torch.autograd.grad(value, policy.logits, retain_graph=True)[0] for value in (by_token, whole)]
    assert largest(slopes[0] - charged(policy, logps - base)) < 1e-14
    assert largest(slopes[1] - kl_gradient(policy, reference)) < 1e-14


def test_the_kl_of_a_sequence_is_the_sum_of_its_tokens_kl_on_policy_only():
    policy, reference = policy_of(TREE, 4), policy_of(TREE, 14)
    per_prefix = divergence(policy.conditional(), reference.conditional())
    along = TREE.along(per_prefix.unsqueeze(2).expand(-1, -1, 3)).sum(dim=2)
    truth = kl(policy.tabular(), reference.tabular())
    assert largest((policy.tabular().probs() * along).sum(dim=1) - truth) < 1e-14
    assert largest((reference.tabular().probs() * along).sum(dim=1) - truth) > 0.01


# ---- mixtures and lengths -------------------------------------------------------------------------------


def test_mixing_next_token_logits_is_not_mixing_responses():
    """Policy (.5, .5) then (.5, .5); reference (.5, .5) then (.9, .1); weight 1/2.

    Per token the first is a with probability 1/2. Over responses "." weighs .5 and a.. weighs
    .5 (sqrt(.45) + sqrt(.05)) = 1/sqrt(5), so that it is 2/(2 + sqrt(5)) = .472136.
    """
    tree = TokenTree(words=("a", "."), eos=1, length=2)
    policy, reference = fixed(tree, [0.5, 0.5], [0.5, 0.5]), fixed(tree, [0.5, 0.5], [0.9, 0.1])
    mixed = policy.token_geometric(reference, 0.5).tabular()
    truth = policy.tabular().geometric(reference.tabular(), 0.5)
    first = [1 - table.probs()[0, 0].item() for table in (mixed, truth)]
    print(f"P(first token = a): per token {first[0]:.6f}, over responses {first[1]:.6f}")
    assert first == pytest.approx([0.5, 2 / (2 + sqrt(5))], abs=1e-14)
    assert 2 / (2 + sqrt(5)) == pytest.approx(0.472136, abs=5e-7)


@pytest.mark.parametrize("weight", [0.0, 0.125, 0.7, 1.0])
def test_the_two_mixtures_agree_for_one_token(weight):
    tree = TokenTree(words=("a", "b", "."), eos=2, length=1)
    policy, other = policy_of(tree, 0), policy_of(tree, 1)
    mixed = policy.token_geometric(other, weight).tabular()
    assert largest(mixed.probs() - policy.tabular().geometric(other.tabular(), weight).probs()) < 1e-14


def test_the_best_mean_log_prob_is_another_response():
    tree = TokenTree(words=("a", "."), eos=1, length=2)
    table = fixed(tree, [0.6, 0.4], [0.4, 0.6]).tabular().log_probs()[0]
    assert table.exp().tolist() == pytest.approx([0.4, 0.24, 0.36], abs=1e-15)
    assert tree.names[table.argmax()] == "."  # .4 is the largest
    assert tree.names[(table / tree.lengths).argmax()] == "a ."  # sqrt(.36) = .6 > .4


def test_length_normalised_ratios_have_another_optimum():
    """Squared losses on pairs from the uniform reference want log pi/ref = w/tau + c, w = P(y > ref), or

    |y| (w/tau + c) when every log-ratio is divided by its length. The short winner "." falls from .512 to .455
    and "a ." has .544, although "." beats it.
    """
    tree, tau = TokenTree(words=("a", "."), eos=1, length=2), 0.1
    game = PreferenceGame([[0.5, 0.9, 0.51], [0.1, 0.5, 0.1], [0.49, 0.9, 0.5]], names=tree.names)
    reference, win = game.initial(), game.win(game.initial())[0]
    size = tree.lengths.double()
    c = brentq(lambda c: (torch.exp(size * (win / tau + c)).mean() - 1).item(), -20, 20, xtol=1e-14)
    optimum = {
        Ipo: step.ipo_optimum(game, reference, tau),
        IpoMean: TabularPolicy.from_probs(torch.exp(size * (win / tau + c)) / 3),
    }
    rows = enumerate_pairs(game, reference.probs())

    def slope(objective, policy) -> float:
        logits = TokenPolicy.from_sequences(tree, policy).logits.requires_grad_()
        table = TokenPolicy(tree, logits).tabular().log_probs()
        found = scores(table, {"reference": reference.log_probs()}, rows.prompts, rows.responses, rows.prob)
        found = replace(found, length=size[rows.responses])
        reduce.mean(reduce.expected(objective(tau=tau), found).value, rows.weight).backward()
        return logits.grad.norm().item()

    for objective in (Ipo, IpoMean):
        assert [slope(objective, policy) < 1e-10 for policy in optimum.values()] == [
            objective is known for known in optimum
        ]
    assert optimum[Ipo].probs()[0].tolist() == pytest.approx([0.511975, 0.009070, 0.478956], abs=6e-7)
    assert optimum[IpoMean].probs()[0].tolist() == pytest.approx([0.455371, 0.000195, 0.544434], abs=6e-7)


# ---- the token decision process and RTO -----------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_soft_bellman_solution_is_the_gibbs_policy_over_responses(seed, beta):
    reference, reward = policy_of(TREE, seed), policy_of(TREE, seed + 20).logits.detach()
    found = soft_optimum(reference, reward, beta=beta)
    total = TREE.along(reward).sum(dim=2)
    weight = reference.tabular().log_probs() + total / beta
    assert largest(found.policy.tabular().probs() - weight.softmax(dim=1)) < 1e-12
    assert largest(found.value[:, 0] - beta * weight.logsumexp(dim=1)) < 1e-12
    # the value is what the optimum earns less what it pays
    best = found.policy.tabular()
    earned = (best.probs() * total).sum(dim=1) - beta * kl(best, reference.tabular())
    assert largest(found.value[:, 0] - earned) < 1e-12
    # and the sums decide: the same total, all of it paid at the end, has the same optimum
    late = soft_optimum(reference, terminal_reward(TREE, total), beta=beta)
    assert largest(late.policy.conditional() - found.policy.conditional()) < 1e-12


def test_one_soft_backup_by_hand():
    """ref (1/2, 1/2) twice, beta 1, one reward: log 3 for the second a. V(a) = log(3/2 + 1/2) = log 2.

    Then V() = log(1/2 * 2 + 1/2) = log(3/2), and a is written with probability 1/(3/2), then 3/4.
    """
    tree = TokenTree(words=("a", "."), eos=1, length=2)
    reference = fixed(tree, [0.5, 0.5], [0.5, 0.5])
    reward = torch.tensor([[[0.0, 0.0], [log(3), 0.0]]], dtype=DOUBLE)
    found = soft_optimum(reference, reward, beta=1.0)
    assert found.value[0].tolist() == pytest.approx([log(1.5), log(2)], abs=1e-15)
    expected = torch.tensor([[2 / 3, 1 / 3], [3 / 4, 1 / 4]], dtype=DOUBLE)
    assert largest(found.policy.conditional()[0].exp() - expected) < 1e-15


def test_a_terminal_reward_is_paid_once():
    reward = torch.randn(2, len(TREE.responses), dtype=DOUBLE)
    along = TREE.along(terminal_reward(TREE, reward))
    last = TREE.lengths - 1
    assert torch.equal(along[:, torch.arange(len(last)), last], reward)
    assert torch.equal(along.sum(dim=2), reward)


def powered(reference: TokenPolicy, dpo: TokenPolicy, exponent: float) -> torch.Tensor:
    """ref (pi_dpo/ref)^exponent over responses, normalised."""
    base, other = reference.tabular().log_probs(), dpo.tabular().log_probs()
    return (base + exponent * (other - base)).softmax(dim=1)


def test_rto_rewards_telescope():
    reference, dpo = policy_of(TREE, 0), policy_of(TREE, 1)
    summed = TREE.along(rto_reward(dpo, reference, beta=0.05, clip=None)).sum(dim=2)
    implicit = 0.05 * (dpo.tabular().log_probs() - reference.tabular().log_probs())
    assert largest(summed - implicit) < 1e-14
    clipped = TREE.along(rto_reward(dpo, reference, beta=0.05, clip=0.05)).sum(dim=2)
    assert largest(clipped - implicit) > 0.01


@pytest.mark.parametrize(("beta1", "beta2"), [(0.05, 0.01), (0.05, 0.05), (0.1, 0.2), (0.0, 0.01)])
def test_the_optimum_of_rto_is_a_tempered_dpo_policy(beta1, beta2):
    reference, dpo = policy_of(TREE, 0), policy_of(TREE, 1)
    dense = rto_reward(dpo, reference, beta=beta1, clip=None)
    plain = soft_optimum(reference, dense, beta=beta2).policy.tabular().probs()
    assert largest(plain - powered(reference, dpo, beta1 / beta2)) < 1e-12
    if beta1 == beta2:
        assert largest(plain - dpo.tabular().probs()) < 1e-12

    # a reward model that is the implicit reward up to s and c(x) only changes the exponent
    s, c = 0.03, torch.tensor([[5.0], [-2.0]], dtype=DOUBLE)
    model = s * (dpo.tabular().log_probs() - reference.tabular().log_probs()) + c
    both = soft_optimum(reference, dense + terminal_reward(TREE, model), beta=beta2).policy.tabular().probs()
    assert largest(both - powered(reference, dpo, (beta1 + s) / beta2)) < 1e-12


def test_rto_without_dense_rewards_is_ordinary_rlhf():
    reference, dpo = policy_of(TREE, 0), policy_of(TREE, 1)
    model = torch.randn(2, len(TREE.responses), dtype=DOUBLE)
    reward = rto_reward(dpo, reference, beta=0.0, clip=0.05) + terminal_reward(TREE, model)
    found = soft_optimum(reference, reward, beta=0.3).policy.tabular()
    assert largest(found.probs() - step.dpo_optimum(reference.tabular(), model, 0.3).probs()) < 1e-12


def test_rto_scales_first_and_clips_then():
    tree = TokenTree(words=("a", "b", "."), eos=2, length=1)
    dpo, reference = fixed(tree, [0.9, 0.06, 0.04]), fixed(tree, [0.1, 0.1, 0.8])
    # scaled by .05: log 9 = .1099 and log(1/20) = -.1498 are clipped, log(.6) = -.0255 is not
    found = rto_reward(dpo, reference, beta=0.05, clip=0.05)[0, 0].tolist()
    assert found == pytest.approx([0.05, 0.05 * log(0.6), -0.05], abs=1e-15)
    # clipped first, every token would get +-.0025, a twentieth of the bound
    ratio = dpo.conditional() - reference.conditional()
    assert (0.05 * ratio.clamp(-0.05, 0.05)).abs()[0, 0].tolist() == pytest.approx([0.0025] * 3, abs=1e-15)
