"""Fast-slow chasing: two policies on one stream of pairs, and the combination of several domains' best."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core.objectives import Dpo
from equipoise.games import zoo
from equipoise.games.expectation import loss
from equipoise.games.offline import PairData
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.dpo import DPO
from equipoise.methods.ofs_dpo import COFS_DPO, OFS_DPO
from equipoise.play.players.by_domain import ByDomain
from equipoise.play.players.recorded import Recorded
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, SLOW, START, State
from equipoise.play.updates.basic import Descend
from equipoise.play.updates.fast_slow import FAST, KEPT, SHARES
from equipoise.playground import model_path
from equipoise.policy import lora
from equipoise.policy.causal import CausalPolicy
from equipoise.run.config import resolve
from equipoise.run.materials import gather
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.table.enumeration import comparisons
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.fit import Training

BRPS = zoo.parse("brps")
OFS = OFS_DPO.with_parameters({"beta": 0.5, "rate": 0.5, "speed": 0.25, "parts": 1})


def in_a_table(method, rounds, world=None):
    world = world or TableWorld(BRPS)
    state = State.begin(world.game.initial(), method.update.memory)
    for _ in range(rounds):
        state = play_round(method, world, state)
    return state


def dpo(rate):
    return replace(DPO, update=Descend(rate=rate)).with_parameters({"beta": 0.5})


def same(one, other, atol=1e-12):
    return torch.allclose(one.log_probs(), other.log_probs(), rtol=0, atol=atol)


# --- two policies


def test_without_a_chase_two_independent_runs_of_dpo():
    state = in_a_table(OFS.with_parameters({"chase": 0.0}), 8)
    assert same(state.policies[START], in_a_table(dpo(0.5), 8).policies[START])
    assert same(state.policies[SLOW], in_a_table(dpo(0.5 * 0.25), 8).policies[START])


@pytest.mark.slow
def test_without_a_chase_two_independent_runs_in_text(make_world, policy, tmp_path):
    """The fast one is DPO at the learning rate, the slow one at half of it, moments carried along in both."""
    offline = {"players": Recorded(parts=2), "rounds": 2}
    chased = replace(OFS_DPO.with_parameters({"chase": 0.0, "speed": 0.5}), **offline)
    alone = replace(DPO, update=Descend(), **offline)
    found = {}
    for name, method, lr in (("both", chased, 1e-3), ("fast", alone, 1e-3), ("slow", alone, 5e-4)):
        training = Training(lr=lr, batch=4, micro_batch=4, schedule="constant", warmup=0.0)
        fresh = CausalPolicy.load(model_path(), policy.tokenizer, device="cpu")
        world = make_world(journal=Journal(tmp_path / name), training=training, policy=fresh)
        state = world.begin(method.update.memory)
        for _ in range(2):
            state = play_round(method, world, state)
        found[name] = {w: weights(world, state.policies[w]) for w in state.policies if w in (START, SLOW)}
    for mine, other in ((found["both"][START], "fast"), (found["both"][SLOW], "slow")):
        assert all(torch.allclose(mine[n], found[other][START][n], rtol=0, atol=1e-6) for n in mine)
    assert not all(
        torch.allclose(found["both"][START][n], found["both"][SLOW][n], atol=1e-4)
        for n in found["both"][SLOW]
    )


def weights(world, folder):
    with world.model.playing(folder) as policy:
        return {name: p.detach().clone() for name, p in policy.parameters()}


def test_where_both_are_one_policy_both_are_pushed_the_same_way():
    """F = S = reference: L_DPO gives -beta/2 grad h and either contest -chase beta/2 grad h more."""
    moved = in_a_table(OFS.with_parameters({"chase": 0.6, "speed": 1.0}), 1).policies
    plain = in_a_table(dpo(0.5 * (1 + 0.6)), 1).policies
    assert same(moved[START], moved[SLOW])
    assert same(moved[START], plain[START])
    apart = in_a_table(OFS.with_parameters({"chase": 0.6, "speed": 0.25}), 1).policies
    assert same(apart[SLOW], in_a_table(dpo(0.25 * 0.5 * (1 + 0.6)), 1).policies[START])


def test_the_policy_with_the_lower_loss_becomes_the_fast_one():
    method = OFS.with_parameters({"chase": 0.4})
    ahead = in_a_table(dpo(0.5), 10).policies[START]
    begin = State.begin(BRPS.initial(), (SLOW,))
    right, wrong = begin.with_policies(**{START: ahead}), begin.with_policies(**{SLOW: ahead})
    one, other = (play_round(method, TableWorld(BRPS), s).policies for s in (right, wrong))
    assert not same(one[START], one[SLOW], atol=1e-2)
    assert same(one[START], other[START], atol=0)
    assert same(one[SLOW], other[SLOW], atol=0)


def test_each_is_contested_by_the_other_as_it_was():
    """One round from two different policies, with autograd on the enumerated losses."""
    method = OFS.with_parameters({"chase": 0.8, "beta": 0.5})
    state = State.begin(BRPS.initial(), (SLOW,))
    fast, slow = (TabularPolicy.from_probs(p) for p in ([0.5, 0.1, 0.4], [0.6, 0.3, 0.1]))
    state = state.with_policies(**{START: fast, SLOW: slow})
    world = TableWorld(BRPS)
    rows = world.recorded(state)
    reference = BRPS.initial().log_probs()
    own = [world.loss(state, rows, {"reference": reference}, Dpo(beta=0.5), of=who) for who in (START, SLOW)]
    assert own[0] < own[1], "no change of roles"
    moved = play_round(method, world, state).policies
    for who, me, rival, sign, rate in ((START, fast, slow, 1, 0.5), (SLOW, slow, fast, -1, 0.125)):
        logits = me.log_probs().clone().requires_grad_()
        pi = logits.log_softmax(1)[0]
        total = 0.0
        for (w, l), weight in zip(rows.responses, rows.weight, strict=True):
            h = pi[w] - pi[l] - reference[0, w] + reference[0, l]
            other = rival.log_probs()[0]
            rivals = other[w] - other[l] - reference[0, w] + reference[0, l]
            contest = -torch.nn.functional.logsigmoid(sign * 0.5 * (h - rivals))
            total = total + weight * (-torch.nn.functional.logsigmoid(0.5 * h) + sign * 0.8 * contest)
        (gradient,) = torch.autograd.grad(total / rows.weight.sum(), logits)
        expected = TabularPolicy(me.log_probs() - rate * 3 * gradient)
        assert same(moved[who], expected)


def test_exact_runs():
    for method in (OFS_DPO, COFS_DPO):
        trace = play_game(BRPS, method.with_parameters(method.exact), rounds=20)
        assert trace["round"][-1] == 20
        assert trace["policy"][0][0] > BRPS.reference[0, 0], "the pairs' favourite of the reference gains"


# --- domains


def two_domains():
    """Two prompts, each a domain, with opposite preferences."""
    rock = torch.tensor([[0.5, 0.9, 0.9], [0.1, 0.5, 0.9], [0.1, 0.1, 0.5]], dtype=torch.float64)
    return PreferenceGame(torch.stack([rock, rock.T]), [0.4, 0.3, 0.3])


def test_domains_come_one_after_another_in_parts():
    data = Rows(
        prompts=np.array(list("abcdef")),
        responses=np.zeros((6, 2), dtype=int),
        weight=np.ones(6),
        writers=("recorded", "recorded"),
        domain=np.array([0, 0, 1, 1, 1, 0]),
    )

    class Stored:
        def recorded(self, state):
            return data

    state, shown = State.begin(None), []
    for _ in range(6):
        shown.append("".join(ByDomain(stay=2, parts=2).write(Stored(), state).prompts))
        state = state.advance({START: None})
    assert shown == ["af", "b", "ce", "d", "af", "b"]
    untold = Stored()
    data = replace(data, domain=None)
    assert len(ByDomain(stay=1, parts=1).write(untold, state)) == 6, "without domains there is one"
    with pytest.raises(ValueError, match=r"play\.samples does not apply"):
        ByDomain().writing(2)


def test_files_are_domains_and_so_are_the_hours_of_the_language_game(tmp_path):
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for k, file in enumerate(files):
        lines = [{"prompt": f"a {k} {i}", "chosen": "hot tea.", "rejected": "iced tea."} for i in range(6)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "run").mkdir()
    made = gather(resolve("dpo", {"data.path": [str(f) for f in files]}), tmp_path / "run")
    numbers = {
        int(p.context.split()[1]): d for p, d in zip(made.pairs.prompts, made.pairs.domain, strict=True)
    }
    assert numbers == {0: 0, 1: 1}
    game = gather(resolve("dpo", {"data.pairs": 40}), tmp_path / "run")
    for prompt, domain in zip(game.pairs.prompts, game.pairs.domain, strict=True):
        assert ("morning", "evening")[domain] in prompt.context


def test_the_weight_of_a_domain_has_the_least_loss_on_what_is_remembered():
    game = two_domains()
    method = COFS_DPO.with_parameters({**COFS_DPO.exact, "stay": 3, "rate": 2.0, "recall": 1000})
    world = TableWorld(game)
    state = in_a_table(method, 3, world)
    kept = state.policies[KEPT]
    assert kept is state.policies[START] is state.policies[SLOW]
    assert not same(kept, game.initial())
    for _ in range(2):
        state = play_round(method, world, state)
    rows = method.players.write(world, state)
    assert set(rows.prompts) == {1}
    anchors = world.anchors(state, rows, method.anchors)
    fast = method.update.base.chase(method, world, state, rows, anchors, name=FAST)[START]
    end = play_round(method, world, state)
    everything = comparisons(world.recorded(state))
    reference = {"reference": game.initial().log_probs()}

    def mixed(share):
        return TabularPolicy((1 - share) * kept.log_probs() + share * fast.log_probs())

    losses = [float(loss(Dpo(beta=0.5), mixed(s).log_probs(), reference, everything)) for s in SHARES]
    assert same(end.policies[START], mixed(SHARES[int(np.argmin(losses))]))


def test_what_helps_no_domain_gets_no_weight(monkeypatch):
    """A newest policy that is worse on everything remembered leaves the combination as it was."""
    from equipoise.play.updates.fast_slow import FastSlow

    world = TableWorld(two_domains())
    method = COFS_DPO.with_parameters({**COFS_DPO.exact, "stay": 2})
    state = in_a_table(method, 3, world)
    kept = state.policies[KEPT]
    worse = TabularPolicy(-8 * kept.log_probs())
    monkeypatch.setattr(FastSlow, "chase", lambda *_, **__: {START: worse, SLOW: worse})
    assert same(play_round(method, world, state).policies[START], kept)


@pytest.mark.parametrize("share", SHARES)
def test_identical_domains_leave_the_policy_unchanged(share):
    policy = TabularPolicy.from_probs([0.2, 0.5, 0.3])
    state = State.begin(policy).with_policies(**{KEPT: policy, FAST: policy})
    assert same(TableWorld(BRPS).combine(state, {KEPT: 1 - share, FAST: share}, name="x"), policy)


def test_data_of_one_game_twice_are_one_domain_learnt_twice():
    """The same data in both domains: the combination lies between the two fast policies, nothing is lost."""
    half = PreferenceGame(two_domains().preference[[0, 0]], [0.4, 0.3, 0.3])
    data = PairData(torch.tensor([[0, 3, 2], [1, 0, 2], [1, 1, 0]], dtype=torch.float64).expand(2, 3, 3))
    method = COFS_DPO.with_parameters({**COFS_DPO.exact, "stay": 5})
    state = in_a_table(method, 10, TableWorld(half, data))
    probs = state.policies[START].probs()
    assert torch.all(probs[:, 0] > 0.4)


def test_lora_adapters_are_chased_and_combined(make_world, renderer, pairs):
    policy = CausalPolicy.load(model_path(), renderer.codec.tokenizer, lora_rank=2, device="cpu")
    frozen = {n: p.clone() for n, p in policy.model.named_parameters() if not p.requires_grad}
    tagged = replace(pairs, domain=np.repeat([0, 1], 4))
    training = Training(lr=1e-3, batch=4, micro_batch=4)
    world = make_world(policy=policy, pairs=tagged, training=training)
    method = COFS_DPO.with_parameters({"stay": 1, "parts": 1, "recall": 4, "beta": 0.5})
    state = world.begin(method.update.memory)
    first = play_round(method, world, state)
    assert (
        first.policies[START] == first.policies[SLOW] == first.policies[KEPT] == world.journal.checkpoint(1)
    )
    same_twice = first.with_policies(**{FAST: first.policies[KEPT]})
    again = world.combine(same_twice, {KEPT: 0.25, FAST: 0.75}, name="again", products=True)
    one, other = weights(world, first.policies[KEPT]), weights(world, again)
    for name in one:
        b, a = name, lora.partner(name)
        if not lora.is_factor_a(name):  # the factors turn, what they add to the weights stays
            before, after = one[b] @ one[a], other[b] @ other[a]
            assert before.abs().max() > 0
            assert torch.allclose(after, before, rtol=0, atol=1e-6 * float(before.abs().max()))
    second = play_round(method, world, first)
    assert second.policies[START] == world.journal.checkpoint(2)
    left = {folder.name for folder in world.journal.checkpoints.iterdir()}
    assert left == {"initial", "round-001", "round-002"}, "what was only tried is gone"
    assert all(torch.equal(frozen[n], p) for n, p in policy.model.named_parameters() if n in frozen)
    resumed = make_world(policy=policy, pairs=tagged).begin(method.update.memory)
    assert resumed.policies == second.policies
    assert set(second.policies) >= {INITIAL, START, SLOW, KEPT}
