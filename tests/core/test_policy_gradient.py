"""Policy gradients and their kin by exact enumeration: what each one ascends, and where they agree."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Dpo, Ipo, Mpo, P3o, Ppo, Reinforce, Rloo
from equipoise.core.objectives.groups import leave_one_out
from equipoise.games import PreferenceGame, TabularPolicy, enumerate_pairs, kl, regularised_nash, zoo
from equipoise.games import closed_form as step
from equipoise.games.fit import gradient

DOUBLE = torch.float64
BRPS = zoo.brps()
GAMES = {"rps": zoo.rps(), "brps": BRPS, "random": zoo.random(5, 0)}
each_game = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
each_clipping = pytest.mark.parametrize("joint", [False, True], ids=["separate", "joint"])


def some_policy(actions: int, seed: int) -> TabularPolicy:
    generator = torch.Generator().manual_seed(seed)
    return TabularPolicy(torch.randn(1, actions, generator=generator, dtype=DOUBLE))


def at(policy: TabularPolicy, **anchors: TabularPolicy) -> dict:
    return {"start": policy.log_probs(), "anchors": {k: v.log_probs() for k, v in anchors.items()}}


def value_gradient(policy: TabularPolicy, reward, *penalties: tuple[float, TabularPolicy]):
    """Gradient in the logits of E_pi R - sum of weight KL(pi || other), with R held fixed."""
    logits = policy.logits.clone().requires_grad_()
    live = TabularPolicy(logits)
    value = (live.probs() * reward).sum() - sum(w * kl(live, q).sum() for w, q in penalties)
    return torch.autograd.grad(value, logits)[0]


def close(got, want, atol: float = 1e-13) -> bool:
    assert want.abs().max() > 1e-4  # agreement on zero would say nothing
    return torch.allclose(got, want, rtol=0, atol=atol)


def slopes(objective, scores: Scores) -> list[float]:
    return torch.autograd.grad(objective(scores).value.sum(), scores.logp)[0][0].tolist()


# by hand ----------------------------------------------------------------------------------------


def test_reinforce_by_hand(group):
    # tau = 1/4: 1 - 1/2 - 2/4 = 0 and 0 - 1/2 + 4/4 = 1/2; over two responses, descending
    assert slopes(Reinforce(tau=0.25), group([2.0, -4.0], [1.0, 0.0], "reference")) == pytest.approx(
        [0, -0.25]
    )


def test_rloo_by_hand(group):
    # tau = 1/4: R - tau lr = (1/2, 1, 3); less the mean of the others (-3/2, -3/4, 9/4); over three
    scores = group([2.0, -4.0, 0.0], [1.0, 0.0, 3.0], "reference")
    assert slopes(Rloo(tau=0.25), scores) == pytest.approx([0.5, 0.25, -0.75])


def test_mpo_by_hand(group):
    # alpha = 1/4, eta = 2: 1 - 1/2 - 2/4 - 2/2 = -1
    assert slopes(Mpo(alpha=0.25, eta=2.0), group([2.0], [1.0], "magnet", "previous")) == pytest.approx([1.0])


@pytest.mark.parametrize(
    "first, second, value, grads",
    [
        (1.0, 1.0, 0.0, (-1.0, 1.0)),  # at pi_t
        (1.5, 1.0, 1.2 - 1.0, (0.0, 1.0)),  # the better one has gained enough
        (1.0, 0.5, 1.0 - 0.8, (-1.0, 0.0)),  # the worse one has lost enough
        (0.5, 1.5, 0.5 - 1.5, (-0.5, 1.5)),  # both went the wrong way: the ratios themselves pull back
    ],
)
def test_p3o_separate_clipping_by_hand(group, first, second, value, grads):
    # rewards 2 apart: d = 1; clip at 0.8 and 1.2
    scores = group([math.log(first), math.log(second)], [2.0, 0.0], "reference", "previous")
    objective = P3o(tau=0.0, clip=0.2, joint=False)
    assert objective(scores).value.item() == pytest.approx(-value)
    assert slopes(objective, scores) == pytest.approx(grads)


@pytest.mark.parametrize(
    "first, second, value, grad", [(1.0, 1.0, 1.0, -1.0), (1.2, 0.8, 1.2, 0.0), (0.5, 1.0, 0.5, -0.5)]
)
def test_p3o_joint_clipping_by_hand(group, first, second, value, grad):
    # d = 1 and w = first/second, clipped above 1.2 only: min keeps the smaller
    scores = group([math.log(first), math.log(second)], [2.0, 0.0], "reference", "previous")
    objective = P3o(tau=0.0, clip=0.2, joint=True)
    assert objective(scores).value.item() == pytest.approx(-value)
    assert slopes(objective, scores) == pytest.approx([grad, -grad])


def test_joint_clipping_sees_the_difference_of_log_ratios_only(group):
    # each ratio is far out of the clip range, their quotient is not
    scores = group([2.0, 1.9], [2.0, 0.0], "reference", "previous")
    assert slopes(P3o(tau=0.0, joint=True), scores) == pytest.approx([-math.exp(0.1), math.exp(0.1)])
    assert slopes(P3o(tau=0.0, joint=False), scores)[0] == 0


def test_the_reward_is_charged_with_the_kl_of_the_writer_not_of_the_policy():
    # log(pi_t/pi_ref) = (2, -2), tau = 1/4: rewards (1, 1) become (1/2, 3/2), wherever pi has gone since
    scores = Scores(
        logp=torch.tensor([[5.1, -5.1]], dtype=DOUBLE, requires_grad=True),
        anchors={
            "reference": torch.tensor([[3.0, -3.0]], dtype=DOUBLE),
            "previous": torch.tensor([[5.0, -5.0]], dtype=DOUBLE),
        },
        reward=torch.ones(1, 2, dtype=DOUBLE),
    )
    separate = [0.5 * math.exp(0.1), -0.5 * math.exp(-0.1)]
    assert slopes(P3o(tau=0.25, joint=False), scores) == pytest.approx(separate)
    joint = 0.5 * math.exp(-0.2)
    assert slopes(P3o(tau=0.25, joint=True), scores) == pytest.approx([joint, -joint])


def test_ppo_on_two_responses_is_p3o_with_separate_clipping():
    shape = {"generator": torch.Generator().manual_seed(0), "dtype": DOUBLE}
    scores = Scores(
        logp=torch.randn(20, 2, **shape).requires_grad_(),
        anchors={name: torch.randn(20, 2, **shape) for name in ("reference", "previous")},
        reward=torch.randn(20, 2, **shape),
    )
    shaped = scores.rewards() - 0.3 * (scores.of("previous") - scores.of("reference"))
    ppo = Ppo(clip=0.1)(replace(scores, reward=leave_one_out(shaped)))
    p3o = P3o(tau=0.3, clip=0.1, joint=False)(scores)
    assert torch.allclose(ppo.value, p3o.value, rtol=0, atol=1e-13)


@pytest.mark.parametrize("clip", [0.0, 1.0, math.nan])
@pytest.mark.parametrize("build", [P3o, Ppo])
def test_a_clip_outside_its_range_is_refused(build, clip):
    with pytest.raises(ValueError, match="clip must lie in"):
        build(clip=clip)


# what they ascend -------------------------------------------------------------------------------


@each_game
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_reinforce_and_rloo_ascend_the_regularised_value(game, groups, tau):
    policy, opponent = some_policy(game.actions, 1), some_policy(game.actions, 2)
    reference, win = game.initial(), game.win(opponent)
    want = -value_gradient(policy, win, (tau, reference))
    here = at(policy, reference=reference)
    assert close(gradient(Reinforce(tau=tau), groups(win, policy), **here), want)
    assert close(gradient(Reinforce(tau=tau), groups(win, policy, policy), **here), want)
    assert close(gradient(Rloo(tau=tau), groups(win, policy, policy, policy), **here), want)


@each_game
def test_one_sampled_opponent_gives_the_same_expected_gradient(game, groups):
    policy, opponent = some_policy(game.actions, 1), some_policy(game.actions, 2)
    here = at(policy, reference=game.initial())
    sampled = sum(
        p * gradient(Reinforce(tau=0.1), groups(game.preference[:, :, z], policy), **here)
        for z, p in enumerate(opponent.probs()[0])
    )
    assert close(sampled, gradient(Reinforce(tau=0.1), groups(game.win(opponent), policy), **here))


@each_game
def test_mpo_ascends_its_step_and_stops_at_the_closed_form(game, groups):
    alpha, eta = 0.3, 0.7
    policy, magnet, start = (some_policy(game.actions, seed) for seed in (1, 2, 3))
    win = game.win(start)
    found = gradient(
        Mpo(alpha=alpha, eta=eta), groups(win, policy), **at(policy, magnet=magnet, previous=start)
    )
    assert close(found, -value_gradient(policy, win, (alpha, magnet), (1 / eta, start)))
    for strength in (alpha, 0.0):
        goal = step.mmd_step(game, start, magnet, eta=eta, alpha=strength)
        here = at(goal, magnet=magnet, previous=start)
        assert gradient(Mpo(alpha=strength, eta=eta), groups(win, goal), **here).abs().max() < 1e-14
    explicit = step.mirror_step(start, win, step=eta, magnet=magnet, pull=eta * alpha)
    assert not torch.allclose(
        explicit.probs(), step.mmd_step(game, start, magnet, eta=eta, alpha=alpha).probs()
    )
    here, sampled = at(explicit, magnet=magnet, previous=start), Mpo(alpha=alpha, eta=eta, real_time=False)
    assert gradient(sampled, groups(win, explicit), **here).abs().max() < 1e-14
    assert torch.allclose(goal.probs(), step.mwu_step(game, start, eta=eta).probs())  # strength 0


# online IPO, IPO-MD and Nash-MD-PG --------------------------------------------------------------


@each_game
def test_online_ipo_is_self_play_policy_gradient_in_disguise(game, groups):
    tau, reference, policy = 0.3, game.initial(), some_policy(game.actions, 1)
    here = at(policy, reference=reference)
    ipo = gradient(Ipo(tau=tau), enumerate_pairs(game, policy.probs()), **here)
    assert close(ipo, -4 / tau * value_gradient(policy, game.win(policy), (tau, reference)))
    assert close(ipo, 4 / tau * gradient(Reinforce(tau=tau), groups(game.win(policy), policy), **here))


@each_game
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_online_ipo_rests_at_the_regularised_nash_policy(game, tau):
    nash = regularised_nash(game, tau)
    found = gradient(Ipo(tau=tau), enumerate_pairs(game, nash.probs()), **at(nash, reference=game.initial()))
    assert found.abs().max() < 1e-11


def ipo_md(game, policy, tau, share):
    """(mixture, exact gradient) of IPO-MD: both responses from pi^(1 - share) ref^share."""
    mix = policy.geometric(game.initial(), share)
    rows = enumerate_pairs(game, mix.probs())
    return mix, gradient(Ipo(tau=tau), rows, **at(policy, reference=game.initial()))


@each_game
@pytest.mark.parametrize("share", [0.125, 0.5])
def test_ipo_md_needs_its_advantage_centred(game, share):
    tau, policy = 0.3, some_policy(game.actions, 1)
    mix, found = ipo_md(game, policy, tau, share)
    payoff = game.win(mix) - tau * (policy.log_probs() - game.initial().log_probs())

    def ascent(advantage):  # E_mix[ grad log pi(y) advantage(y) ] in the logits
        pull = mix.probs() * advantage
        return pull - pull.sum() * policy.probs()

    centred = payoff - (mix.probs() * payoff).sum()
    assert close(found, -4 / tau * ascent(centred))
    assert (found + 4 / tau * ascent(payoff)).abs().max() > 0.1


def test_nash_md_pg_and_ipo_md_share_their_fixed_point(groups):
    tau, share = 0.1, 0.25
    mix = regularised_nash(BRPS, tau / (1 - share))
    policy = step.best_response(BRPS, mix, tau)
    assert policy.probs()[0].tolist() == pytest.approx([0.598539, 0.038482, 0.362979], abs=1e-6)
    assert mix.probs()[0].tolist() == pytest.approx([0.659701, 0.061582, 0.278718], abs=1e-6)
    found, slope = ipo_md(BRPS, policy, tau, share)
    assert torch.allclose(found.probs(), mix.probs(), rtol=0, atol=1e-11)
    assert slope.abs().max() < 1e-10
    rows = groups(BRPS.win(found), policy)
    assert gradient(Reinforce(tau=tau), rows, **at(policy, reference=BRPS.initial())).abs().max() < 1e-11


def test_online_dpo_is_not_a_nash_solver():
    game = PreferenceGame([[0.5, 0.8], [0.2, 0.5]])
    labels, nash = TabularPolicy.from_probs([0.8, 0.2]), regularised_nash(game, 1.0)
    assert nash.probs()[0].tolist() == pytest.approx([0.574443, 0.425557], abs=1e-6)

    def pull(objective, policy):
        rows = enumerate_pairs(game, policy.probs())
        return gradient(objective, rows, **at(policy, reference=game.initial())).abs().max()

    assert pull(Dpo(beta=1.0), labels) < 1e-15 and pull(Dpo(beta=1.0), nash) > 1e-2
    assert pull(Ipo(tau=1.0), nash) < 1e-12 and pull(Ipo(tau=1.0), labels) > 1e-2


# P3O and PPO ------------------------------------------------------------------------------------


@each_game
@each_clipping
def test_p3o_is_the_policy_gradient_where_the_samples_come_from(game, groups, joint):
    policy, reward = some_policy(game.actions, 1), some_policy(game.actions, 2).logits
    rows = groups(reward, policy, policy)
    found = gradient(P3o(tau=0.0, joint=joint), rows, **at(policy, reference=policy, previous=policy))
    assert close(found, -value_gradient(policy, reward))
    # with the KL in the reward: the regularised value, and response by response REINFORCE leave-one-out
    reference = game.initial()
    here = at(policy, reference=reference, previous=policy)
    found = gradient(P3o(tau=0.3, joint=joint), rows, **here)
    assert close(found, -value_gradient(policy, reward, (0.3, reference)))
    assert close(found, gradient(Rloo(tau=0.3), rows, **here))


@each_game
def test_p3o_with_a_plus_between_the_log_probs_would_stand_still(game, groups):
    policy, reward = some_policy(game.actions, 1), some_policy(game.actions, 2).logits
    rows = groups(reward, policy, policy)
    difference = (rows.reward[:, 0] - rows.reward[:, 1]) / 2
    logits = policy.logits.clone().requires_grad_()
    logp = logits.log_softmax(dim=1)[0]

    def ascent(sign: float):
        both = logp[rows.responses[:, 0]] + sign * logp[rows.responses[:, 1]]
        return torch.autograd.grad((rows.weight * difference * both).sum(), logits, retain_graph=True)[0]

    assert ascent(+1.0).abs().max() < 1e-15
    assert close(ascent(-1.0), value_gradient(policy, reward))


@each_clipping
def test_p3o_does_not_mind_which_response_comes_first(joint, group):
    scores = group([0.3, -0.1], [1.0, 0.4], "reference", "previous")
    objective = P3o(tau=0.2, joint=joint)
    assert objective(scores).value.item() != 0
    assert torch.equal(objective(scores).value, objective(scores.swap()).value)
    assert slopes(objective, scores) == slopes(objective, scores.swap())[::-1]


@each_clipping
def test_p3o_with_equal_rewards_moves_nothing(group, joint):
    scores = group([0.4, -1.0], [0.3, 0.3], "reference", "previous")
    assert slopes(P3o(tau=0.0, joint=joint), scores) == [0.0, 0.0]


def test_ratios_are_unbiased_off_policy_inside_the_clip_range(groups):
    # pairs from pi_t, gradient at a pi within the range: each ratio alone is importance sampling
    old, reward = some_policy(4, 1), some_policy(4, 2).logits
    policy = TabularPolicy(old.logits + 0.05 * some_policy(4, 3).logits)
    assert (policy.probs() / old.probs() - 1).abs().max() < 0.2
    found = gradient(
        P3o(tau=0.0, joint=False), groups(reward, old, old), **at(policy, reference=old, previous=old)
    )
    assert close(found, -value_gradient(policy, reward))
