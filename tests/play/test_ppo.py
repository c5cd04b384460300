"""PPO and RTO in both worlds: advantages once per round, a teacher once per run, tokens through the fit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from equipoise.core.advantages import at_last, gae, implicit_reward, returns, whiten
from equipoise.games import zoo
from equipoise.methods.index import METHODS
from equipoise.methods.policy_gradients import RLOO
from equipoise.methods.ppo import PPO
from equipoise.methods.rto import RTO
from equipoise.play.players.sampled import Self
from equipoise.play.round import play
from equipoise.play.state import CRITIC, INITIAL, START, TEACHER
from equipoise.play.updates.ppo import TeacherRewards, TokenAdvantages
from equipoise.run.session import align
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.text.fit import Fit, PolicyScoring, Training

PARAMETERS = {"tau": 0.2, "whiten": False, "rate": 0.5}


# exact games --------------------------------------------------------------------------------------------


def played(method, rounds=3, game="brps"):
    return np.array(play_game(zoo.make(game), method, rounds=rounds)["policy"])


def test_on_a_finite_game_ppo_is_the_policy_gradient_with_a_baseline():
    rloo = RLOO.with_parameters({"tau": 0.2, "rate": 0.5})
    for samples in (1, 2):  # whoever enumerates more columns takes the same step
        method = PPO.with_parameters(PARAMETERS)
        method = replace(method, in_theory=(Self(samples=samples), method.pairing))
        assert np.allclose(played(method), played(rloo), rtol=0, atol=1e-12)
    assert np.abs(played(rloo) - played(rloo, rounds=0)).max() > 0.01


def test_whitened_the_step_has_the_size_of_its_rate():
    """Advantages A of mean 0 and deviation 1 under the policy p: the logits move by rate * 3 * p A."""
    game = zoo.make("brps")
    method = PPO.with_parameters({"tau": 0.0, "rate": 0.01})
    p = game.reference[0]
    wins = game.preference[0] @ p
    centred = wins - p @ wins
    scores = centred / (p @ centred.square()).sqrt()
    by_hand = (p.log() + 0.03 * p * scores).softmax(dim=0).numpy()
    assert np.allclose(played(method, rounds=1)[0], by_hand, rtol=0, atol=1e-12)


def test_on_a_finite_game_rto_without_a_teacher_is_ppo_and_with_one_alone_its_power():
    same = RTO.with_parameters({**PARAMETERS, "beta1": 0.0})
    assert np.allclose(played(same), played(PPO.with_parameters(PARAMETERS)), rtol=0, atol=1e-14)

    # sentence = 0: pi ~ ref (pi_dpo/ref)^(beta1/tau), pi_dpo ~ ref exp(r/beta) for pairs labelled by r
    game, beta = zoo.bradley_terry([0.0, 0.4, 1.0]), 2.0
    alone = {
        "tau": 0.2,
        "rate": 2.0,
        "whiten": False,
        "sentence": 0.0,
        "beta1": 0.3,
        "cap": 1e9,
        "beta": beta,
    }
    found = np.array(play_game(game, RTO.with_parameters(alone), rounds=300)["policy"][0])
    law = torch.softmax(0.3 / 0.2 * torch.tensor([0.0, 0.4, 1.0]) / beta, dim=0)
    assert np.allclose(found, law.numpy(), rtol=0, atol=1e-5)


def test_parameters_out_of_range_are_refused():
    for update, wrong in (
        (TokenAdvantages, {"tau": -1.0}),
        (TokenAdvantages, {"lam": 1.5}),
        (TokenAdvantages, {"critic": "oracle"}),
        (TokenAdvantages, {"critic_rate": 0.0}),
        (TokenAdvantages, {"value_clip": 0.0}),
        (TeacherRewards, {"beta1": -1.0}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            update(**wrong)
    with pytest.raises(ValueError, match="cap"):
        RTO.with_parameters({"cap": 0.0})
    assert PPO.with_parameters({"lam": 0.5, "clip": 0.1}).parameters() == {
        "clip": 0.1, "tau": 0.05, "lam": 0.5, "whiten": True, "critic": "network", "critic_rate": 18.0,
        "value_clip": 0.2, "rate": 0.1,
    }  # fmt: skip


# text ---------------------------------------------------------------------------------------------------


def small(method, **parameters):
    method = method.with_parameters(parameters) if parameters else method
    return replace(method, players=Self(samples=2), rounds=2)


def judged(world, method, state):
    candidates = world.stage(state, "sampling", lambda: method.players.write(world, state))
    return world.stage(state, "judging", lambda: method.pairing.form(world, state, candidates))


def test_advantages_of_text_written_out(make_world):
    world = make_world()
    state = world.begin()
    rows = judged(world, PPO, state)
    (own, mask), (reference, _) = (world.token_logps(state, rows, p) for p in (START, INITIAL))
    # at the start the KL charge is 0, so a nudged checkpoint stands in for the reference
    elsewhere = world.perturb(state, START, scale=5.0, direction="elsewhere", name="elsewhere")
    assert own.equal(reference)
    state = state.with_policies(**{INITIAL: elsewhere, TEACHER: elsewhere})
    other = world.token_logps(state, rows, INITIAL)[0]
    assert float((own - other)[mask].abs().mean()) > 0.01

    reward = at_last(torch.from_numpy(rows.reward), mask) - 0.3 * (own - other)
    values = world.token_values(state, rows, returns(reward))
    plain = gae(reward, values, lam=0.6)
    unwhitened = TokenAdvantages(tau=0.3, lam=0.6, whiten=False, critic="regression")
    rewards = unwhitened.rewards(world, state, rows)
    raw = unwhitened.advantages(world, state, rows, rewards)
    assert raw.reward.shape == own.shape and torch.from_numpy(raw.reward).equal(plain)
    assert not raw.reward[~mask.numpy()].any()
    white = TokenAdvantages(tau=0.3, lam=0.6, critic="regression").advantages(world, state, rows, rewards)
    assert torch.from_numpy(white.reward).equal(whiten(plain, mask.double()))

    teacher = implicit_reward(world.token_logps(state, rows, TEACHER)[0], own, beta=2.0, clip=0.1)
    state = state.with_policies(**{INITIAL: state.policies[START]})
    guided = TeacherRewards(base=TokenAdvantages(tau=0.3), beta1=2.0, cap=0.1, sentence=0.5).rewards(
        world, state, rows
    )[0]
    assert torch.allclose(guided, at_last(0.5 * torch.from_numpy(rows.reward), mask) + teacher, atol=1e-15)
    nobody = TeacherRewards(beta1=2.0, cap=0.1).rewards(world, state, replace(rows, reward=None))[0]
    assert torch.allclose(
        nobody, teacher, atol=1e-15
    )  # a round that asked nobody has the teacher's rewards only


def test_anchors_of_tokens_are_cached_and_live(make_world, pairs):
    world = make_world()
    state = world.begin()
    cached = world.anchors(state, pairs, {"previous": START}, tokens=True)["previous"]
    whole = world.anchors(state, pairs, {"previous": START})["previous"]
    assert torch.allclose(cached.sum(dim=2), whole, rtol=0, atol=1e-10)
    fit = fit_of(world.policy, replace(pairs, prob=None, reward=np.zeros(cached.shape)), {"previous": cached})
    live = fit.scores(np.arange(len(pairs)))
    assert float(live.tokens.log_ratio("previous").detach().abs().max()) < 1e-5
    lines = [json.loads(line) for line in (world.journal.folder / "checks.jsonl").read_text().splitlines()]
    assert [line["step_zero_log_ratio_per_token"] < 1e-5 for line in lines] == [True]


def fit_of(policy, rows, anchors, objective=PPO.objective, **training):
    settings = {"lr": 1e-3, "batch": 8, "micro_batch": 8, "schedule": "constant", "warmup": 0.0} | training
    order = lambda epoch: np.random.default_rng(epoch).permutation(len(rows))  # noqa: E731
    return Fit(
        PolicyScoring(policy, objective), rows, anchors, Training(**settings), Accelerator(cpu=True), order
    )


@pytest.fixture
def weighed(make_world, pairs):
    """(rows with random advantages, their anchors), in float64."""
    world = make_world()
    world.policy.model.double()
    state = world.begin()
    mask = world.token_logps(state, pairs, START)[1].numpy()
    advantage = np.random.default_rng(0).normal(size=mask.shape) * mask
    rows = replace(pairs, prob=None, reward=advantage)
    return rows, world.anchors(state, rows, {"previous": START}, tokens=True)


def test_micro_batches_of_tokens_are_one_batch(policy, weighed):
    rows, anchors = weighed
    start = {n: p.detach().clone() for n, p in policy.parameters()}
    ends = []
    for micro in (8, 3, 1):
        with torch.no_grad():
            for n, p in policy.parameters():
                p.copy_(start[n])
        fit = fit_of(policy, rows, anchors, micro_batch=micro, lr=1e-4)
        figures = [fit.step() for _ in range(3)]
        ends.append((figures, {n: p.detach().clone() for n, p in policy.parameters()}))
    for figures, weights in ends[1:]:
        for a, b in zip(figures, ends[0][0], strict=True):
            assert a == pytest.approx(b, rel=1e-7, abs=1e-9)
        assert max(float((weights[n] - ends[0][1][n]).abs().max()) for n in weights) < 1e-9


def test_the_first_gradient_is_the_policy_gradient_and_a_second_step_is_clipped(policy, weighed):
    rows, anchors = weighed
    fit = fit_of(policy, rows, anchors, clip=1e9, lr=0.05)
    seen = {}
    step = fit.optimizer.step
    fit.optimizer.step = lambda: (seen.update({n: p.grad.clone() for n, p in policy.parameters()}), step())
    tokens = fit.scores(np.arange(8)).tokens
    weight = torch.from_numpy(rows.weight / rows.weight.sum())[:, None]
    by_hand = -(weight * (torch.from_numpy(rows.reward) * tokens.logp).sum(dim=2)).sum() / 2
    want = torch.autograd.grad(by_hand, [p for _, p in policy.parameters()])
    first = fit.step()
    for (name, _), g in zip(policy.parameters(), want, strict=True):
        assert torch.allclose(seen[name], g, rtol=1e-6, atol=1e-9), name
    assert first["clipped"] == 0 == first["saturated"]
    assert 0 < fit.step()["clipped"] < 1


def test_rewards_of_responses_are_refused_where_tokens_are_read(policy, pairs, weighed, no_shape_types):
    rows = replace(pairs, prob=None, reward=np.zeros((8, 2)))
    with pytest.raises(ValueError, match="a reward for every token"):
        fit_of(policy, rows, weighed[1]).step()
    with pytest.raises(TrainingError, match="Ppo reads rewards"):
        fit_of(policy, replace(rows, reward=None), weighed[1])


def test_the_teacher_is_trained_once_and_stays(make_world):
    method = small(RTO, beta=0.5, critic="regression")
    world = make_world()
    taught = []
    state = play(method, world, world.begin(method.update.memory), taught.append)
    found = [s.policies[TEACHER].name for s in taught]
    assert found == ["initial", "round-001-teacher", "round-001-teacher"]
    assert (state.policies[TEACHER] / "fingerprint").parent.exists()
    fits = [(line["round"], line.get("fit")) for line in world.journal.lines("metrics.jsonl")]
    assert fits == [(1, TEACHER)] * 4 + [(1, None)] * 6 + [(2, None)] * 6  # 8 pairs, 12 prompts, two epochs
    for name in (START, TEACHER):
        assert state.policies[name] != state.policies[INITIAL]

    begun = make_world().begin(method.update.memory)  # what a resumed run reads
    assert begun.policies == state.policies and begun.round == 3


def test_values_of_an_interrupted_round_are_read_back(make_world, monkeypatch):
    method = small(PPO, critic="regression")
    world = make_world()
    state = world.begin()
    rows = judged(world, method, state)
    rewards = method.update.rewards(world, state, rows)
    first = method.update.advantages(world, state, rows, rewards)
    monkeypatch.setattr(
        "equipoise.policy.scoring.value_regression.regress_values", lambda *a: pytest.fail("fitted again")
    )
    assert np.array_equal(method.update.advantages(world, state, rows, rewards).reward, first.reward)


@pytest.mark.slow
@pytest.mark.parametrize("method", [PPO, RTO])
def test_a_short_run_on_the_playground(method, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, method.name, method)
    settings = {
        "play.rounds": 2, "play.prompts": 4, "play.samples": 2, "evaluate.prompts": 2, "evaluate.samples": 1,
        "evaluate.every": 2, "data.pairs": 40,
    }  # fmt: skip
    run = align(method.name, out=tmp_path / "run", quiet=True, settings=settings)
    assert (run.summary["status"], run.summary["rounds"]) == ("finished", 2)
    assert run.summary["exact_kl"] > 0
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    own = [line for line in lines if "fit" not in line]
    critic = [line for line in lines if line.get("fit") == CRITIC]
    assert {line["round"] for line in critic} == {1, 2}
    assert {line["round"] for line in own} == {1, 2}
    assert all(0 <= line["clipped"] <= 1 for line in own)
    assert (len(own) + len(critic) < len(lines)) == (method is RTO)
