"""The value network of PPO and RTO: its loss, its first values, its training from round to round, its checkpoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core.advantages import gae
from equipoise.core.scores import Scores, TokenScores
from equipoise.core.value_loss import ClippedValue
from equipoise.games import zoo
from equipoise.methods.ppo import PPO
from equipoise.play.players.sampled import Self
from equipoise.play.round import play
from equipoise.play.state import CRITIC, INITIAL, START, State
from equipoise.policy import checkpoint
from equipoise.worlds.table.world import TableWorld


def scores_of(values, before, target, mask):
    tensors = [torch.tensor(x, dtype=torch.float64)[None] for x in (values, before, target)]
    held = torch.tensor(mask)[None]
    tokens = TokenScores(logp=tensors[0], mask=held, anchors={"previous": tensors[1]}, reward=tensors[2])
    return Scores.of_tokens(tokens)


def test_the_clipped_value_loss_by_hand():
    """Two responses of two and one tokens: errors 0.5 and 1 - 0.2 (clipped, the larger), then 0.1."""
    values, before = [[0.5, 1.0], [0.1, 0.0]], [[0.5, 0.0], [0.0, 0.0]]
    scores = scores_of(values, before, [[0.0, 1.0], [0.2, 0.0]], [[True, True], [True, False]])
    by_hand = 0.5 * ((0.5**2 + 0.8**2) / 2 + 0.1**2) / 2
    assert float(ClippedValue(clip=0.2)(scores).value) == pytest.approx(by_hand, abs=1e-15)
    plain = 0.5 * ((0.5**2 + 0.0) / 2 + 0.1**2) / 2
    assert float(ClippedValue(clip=float("inf"))(scores).value) == pytest.approx(plain, abs=1e-15)
    with pytest.raises(ValueError, match="clip must be positive"):
        ClippedValue(clip=0.0)


def test_value_and_gradient_are_those_of_the_reference_implementation():
    """OpenRLHF's loss, written out: mean over tokens of max of both squared errors, halved; and its gradient."""
    draw = torch.Generator().manual_seed(0)
    values, before, target = (torch.randn(5, 3, 7, generator=draw, dtype=torch.float64) for _ in range(3))
    length = torch.randint(1, 8, (5, 3), generator=draw)
    mask = torch.arange(7) < length[..., None]
    values = (values * mask).requires_grad_()
    before, target = before * mask, target * mask
    tokens = TokenScores(logp=values, mask=mask, anchors={"previous": before}, reward=target)
    ours = ClippedValue(clip=0.2)(Scores.of_tokens(tokens)).value.mean()

    clipped = before + (values - before).clamp(-0.2, 0.2)
    worse = torch.max((clipped - target) ** 2, (values - target) ** 2)
    theirs = 0.5 * ((worse * mask).sum(-1) / mask.sum(-1)).mean()
    assert abs(float((ours - theirs).detach())) < 1e-14
    own, other = (torch.autograd.grad(loss, values, retain_graph=True)[0] for loss in (ours, theirs))
    assert float((own - other).abs().max()) < 1e-14


def small():
    return replace(PPO.with_parameters({"critic_rate": 5.0, "tau": 0.0}), players=Self(samples=2), rounds=3)


@pytest.mark.slow
def test_the_network_begins_at_zero_and_learns_the_level_of_the_reward(make_world):
    method, world, seen = small(), make_world(), []
    begun = world.begin(method.update.memory)
    state = play(method, world, begun, seen.append)
    assert [s.policies[CRITIC].name for s in seen] == [
        "initial", *(f"round-00{n}-critic" for n in (1, 2, 3))
    ]  # fmt: skip
    lines = [line for line in world.journal.lines("metrics.jsonl") if line.get("fit") == CRITIC]
    assert lines[0]["mean_value"] == 0.0
    first, last = (np.mean([line["loss"] for line in lines if line["round"] == n]) for n in (1, 3))
    assert last < 0.5 * first  # win rates near 1/2 against values of 0
    assert checkpoint.network_digest(state.policies[CRITIC]) != checkpoint.network_digest(
        seen[0].policies[CRITIC]
    )
    assert not checkpoint.network_digest(state.policies[START])  # the policy's checkpoints have no head
    assert world.policy.network is None
    resumed = make_world().begin(method.update.memory)
    assert resumed.policies == state.policies


@pytest.mark.slow
def test_values_are_those_of_the_head_on_the_states(make_world, pairs):
    world = make_world()
    method = small()
    state = play(method, world, world.begin(method.update.memory))
    values = world.critic_values(state, pairs, CRITIC)
    with world.model.playing(state.policies[CRITIC]) as policy:
        plain = policy.model
        head = checkpoint.read_tensors(state.policies[CRITIC] / checkpoint.NETWORK)[0]
        for row, k in ((0, 0), (3, 1), (5, 0)):
            prompt, response = pairs.prompts[row].ids, pairs.responses[row, k].ids
            ids = torch.tensor([[*prompt, *response]])
            with torch.no_grad():
                states = plain(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
            before = states[len(prompt) - 1 : len(prompt) - 1 + len(response)]
            want = before @ head["linear.weight"][0] + head["linear.bias"]
            assert torch.allclose(values[row, k, : len(response)].float(), want, atol=1e-4)
            assert not values[row, k, len(response) :].any()


def test_a_resumed_round_reads_its_values_and_its_critic_back(make_world, monkeypatch):
    method, world = small(), make_world()
    state = world.begin(method.update.memory)
    rows = method.pairing.form(world, state, method.players.write(world, state))
    anchors = world.anchors(state, rows, method.anchors, tokens=True)
    moved = method.update.move(method, world, state, rows, anchors)
    monkeypatch.setattr("equipoise.worlds.text.fit.Fit.step", lambda self: pytest.fail("trained again"))
    assert method.update.move(method, world, state, rows, anchors) == moved


def test_a_table_keeps_the_mean_target_of_each_prompt():
    game = zoo.make("brps")
    world, state = TableWorld(game), State.begin(game.initial(), (CRITIC,))
    rows = world.sample(state, world.prompts(state), START, 1)
    assert not world.critic_values(state, rows, CRITIC).any()
    reward = torch.arange(float(len(rows)), dtype=torch.float64)[:, None, None]
    values = world.critic_values(state, rows, CRITIC)
    target = gae(reward, values) + values
    fitted = world.fit_critic(state, rows, values, target, critic=CRITIC, clip=0.2, rate=1.0)
    weight = torch.from_numpy(rows.weight)
    assert float(fitted.logits[0, 0]) == pytest.approx(float((weight * reward[:, 0, 0]).sum() / weight.sum()))
    after = state.with_policies(**{CRITIC: fitted})
    assert torch.equal(world.critic_values(after, rows, CRITIC).unique(), fitted.logits[:, 0].unique())
    assert INITIAL in after.policies
