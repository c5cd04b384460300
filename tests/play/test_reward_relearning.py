"""Reward learning on policy: which pairs, which reward, which policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.games import zoo
from equipoise.methods.rlp import RLP_SPG, RLP_SPG_PPO, RLP_UML, RLP_UML_PPO
from equipoise.oracles.learned.feature_reward import Fitting, LearnedReward
from equipoise.play.pairings.learned_reward import ByLearnedReward
from equipoise.play.round import play
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, REACHED, START, State
from equipoise.play.updates.reward_relearning import Restarted
from equipoise.worlds.table.world import TableWorld

QUICK = Fitting(steps=30, batch=32, width=8, code=4)


@pytest.fixture(autouse=True)
def _one_thread():
    """Matrices this small keep two threads waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(method, every=2, rounds=4, **changes):
    pairing = replace(method.pairing, every=every, fitting=QUICK, **changes)
    return replace(
        method, pairing=pairing, update=replace(method.update, every=every), rounds=rounds, in_theory=None
    )


def exact(method, **changes):
    method = small(method, own=method.exact["own"], reward="features", meaning="text", **changes)
    if "tau" in method.objective.__dataclass_fields__:
        method = replace(method, objective=replace(method.objective, tau=0.2))
    return replace(method, players=method.players.writing(2))


def own_rows(responses, weight=1.0):
    responses = np.array(responses)
    return Rows(
        prompts=np.zeros(len(responses), int),
        responses=responses,
        weight=np.full(len(responses), weight),
        writers=("reached",) * responses.shape[1],
    )


def test_pairs_of_the_largest_cluster_against_the_rest():
    game = zoo.transitive(4)
    world, state = TableWorld(game), State.begin(game.initial(), (REACHED,))
    reward = LearnedReward(4, 3)
    pairing = ByLearnedReward(own=4, confidence=0.5)
    own = own_rows([[1, 1, 0, 2], [3, 3, 3, 3], [0, 1, 2, 3], [2, 0, 2, 2]], weight=0.5)
    values = reward.rewards(world.features(state, own)).numpy()
    made = pairing.made(world, state, own, values)
    assert made.responses.tolist() == [[1, 0], [1, 2], [2, 0]]
    assert made.weight.tolist() == [0.25, 0.25, 0.5]
    assert made.prob.tolist() == [1, 1, 1]
    strict = replace(pairing, confidence=1.0).made(world, state, own, values)
    assert len(strict) == 0


def test_the_preferred_member_is_the_one_of_highest_reward():
    game = zoo.transitive(4)
    world, state = TableWorld(game), State.begin(game.initial(), (REACHED,))
    torch.manual_seed(1)
    reward = LearnedReward(4, 3)
    all_same_parity = ByLearnedReward(own=3, confidence=0.5, same=lambda a, b: int(a) % 2 == int(b) % 2)
    values = reward.rewards(torch.eye(4, dtype=torch.float64))
    own = own_rows([[0, 2, 1]])
    (pair,) = all_same_parity.made(world, state, own, values.numpy()[own.responses]).responses.tolist()
    assert pair == [0 if values[0] >= values[2] else 2, 1]


@pytest.mark.parametrize("method", [RLP_UML, RLP_SPG, RLP_UML_PPO, RLP_SPG_PPO], ids=lambda m: m.name)
def test_a_table_learns_its_reward_and_begins_again(method):
    game = zoo.transitive(3)
    world = TableWorld(game)
    seen = {}
    last = play(
        exact(method),
        world,
        State.begin(game.initial(), method.update.memory),
        lambda state: seen.update({state.round - 1: state.policies}),
    )
    assert sorted(world.made) == ["round-001", "round-003"]
    assert seen[2][START] is seen[0][INITIAL]
    assert seen[2][REACHED] is not seen[1][START]
    assert seen[1][START] is not seen[0][START]
    assert last.policies[START] is not last.policies[INITIAL]  # the last phase is not undone
    for kept in method.update.base.memory:  # PPO's critic
        assert seen[1][kept] is not seen[0][INITIAL]
        assert seen[2][kept] is seen[0][INITIAL]
        assert seen[2][f"reached-{kept}"] not in (seen[1][kept], seen[0][INITIAL])
        assert last.policies[kept] is not last.policies[INITIAL]
    first, second = (LearnedReward.of(world.made[name]) for name in sorted(world.made))
    table = torch.eye(3, dtype=torch.float64)
    assert not torch.equal(first.rewards(table), second.rewards(table))


def test_without_samples_to_use_the_reward_stays_what_it_was_up_to_its_seed():
    """lambda = 0 and no pairs of its own: both phases learn from the recorded pairs alone."""
    game = zoo.transitive(3)
    world, state = TableWorld(game), State.begin(game.initial(), (REACHED,))
    plain = ByLearnedReward(own=2, fitting=QUICK)
    with_views = replace(plain, bottleneck=0.5)
    same, other = (dict(p.learn(world, state, phase, seed=5)) for p, phase in ((plain, 0), (plain, 1)))
    assert all(torch.equal(same[k], other[k]) for k in same)
    moved = with_views.learn(world, state, 1, seed=5)
    assert not all(torch.equal(same[k], moved[k]) for k in same)


def test_a_learned_reward_ranks_a_transitive_game():
    game = zoo.transitive(4)
    world, state = TableWorld(game), State.begin(game.initial(), (REACHED,))
    pairing = ByLearnedReward(fitting=Fitting(steps=200, batch=64, rate=1e-2, width=16))
    rows = own_rows([[0, 1, 2, 3]])
    found = pairing.form(world, state, rows).reward[0]
    assert np.argsort(found).tolist() == np.argsort(game.preference[0].sum(dim=1).numpy()).tolist()


def test_by_ppo_a_phase_is_ppo_on_the_learned_reward():
    """Before the first restart nothing but the reward is the method's own: the same steps as PPO's on these rewards."""
    game = zoo.transitive(3)
    method = exact(RLP_UML_PPO, bottleneck=0.0)
    whole = TableWorld(game)
    begun = State.begin(game.initial(), method.update.memory)
    ours = play(replace(method, rounds=2), whole, begun).policies[START]
    plain = replace(method, update=method.update.base, rounds=2)
    theirs = play(plain, TableWorld(game), State.begin(game.initial(), plain.update.memory)).policies[START]
    assert torch.equal(ours.log_probs(), theirs.log_probs())
    assert not torch.equal(ours.log_probs(), game.initial().log_probs())


def test_parameters_of_one_name_are_one():
    method = RLP_SPG.with_parameters({"every": 7, "confidence": 0.8})
    assert (method.pairing.every, method.update.every, method.pairing.confidence) == (7, 7, 0.8)
    with pytest.raises(ValueError, match="own >= 2 samples, got 50 and 1"):
        RLP_UML.with_parameters({"own": 1})
    assert "restarted from the initial policy every 50 rounds" in Restarted().describe()


def test_text_keeps_its_reward_with_the_run(make_world):
    """Written once, whole; a later call reads it; every phase has its own; the policy is left as it was."""
    world = make_world()
    state = world.begin(RLP_UML.update.memory)
    pairing = ByLearnedReward(every=1, own=4, bottleneck=0.5, confidence=0.25, fitting=QUICK)
    held = [p.detach().clone() for _, p in world.policy.parameters()]
    rows = world.sample(state, world.prompts(state), START, 2)
    scored = pairing.form(world, state, rows)
    folder = world.journal.folder / "kept"
    assert [f.name for f in folder.iterdir()] == ["round-001.safetensors"]
    assert scored.reward.shape == (12, 2)
    written = (folder / "round-001.safetensors").read_bytes()
    resumed = make_world()
    resumed.begin(RLP_UML.update.memory)
    again = pairing.form(resumed, state, rows)
    np.testing.assert_array_equal(scored.reward, again.reward)
    (folder / "round-001.safetensors").unlink()
    np.testing.assert_array_equal(scored.reward, pairing.form(world, state, rows).reward)
    assert (folder / "round-001.safetensors").read_bytes() == written
    later = pairing.form(world, replace(state, round=2), rows)
    assert len(list(folder.iterdir())) == 2
    assert not np.array_equal(scored.reward, later.reward)
    assert all(torch.equal(a, p) for a, (_, p) in zip(held, world.policy.parameters(), strict=True))


def test_features_do_not_depend_on_the_batch_and_see_prompt_and_response(make_world):
    world = make_world()
    state = world.begin()
    rows = world.recorded(state)
    together = world.features(state, rows)
    alone = torch.cat([world.features(state, rows.take(np.array([i]))) for i in range(len(rows))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    swapped = replace(rows, prompts=rows.prompts[::-1].copy())
    assert float((world.features(state, swapped) - together).abs().max()) > 1e-2
    assert together.shape == (8, 2, 96)
