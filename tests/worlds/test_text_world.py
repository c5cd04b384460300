"""The world of text: one model in memory, honest anchors, resumable stages."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from equipoise.methods.index import get
from equipoise.play.needs import ORACLE
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.players.sampled import Self
from equipoise.play.round import play_round
from equipoise.play.state import INITIAL, START
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.text.fit import Fit


def causal(thing):
    return issubclass(type(thing), PreTrainedModel) and type(thing).__name__.endswith("ForCausalLM")


def small(name):
    method = get(name)
    if method.needs == ORACLE:
        method = replace(method, players=Self(samples=2), pairing=Pairs())
    return replace(method, rounds=2)


@pytest.mark.parametrize("name", ["spac", "inpo", "dpo"])
def test_one_model_and_one_optimizer_in_memory(make_world, monkeypatch, name):
    """Counted in the middle of the second round's training, when anchors and iterates are at hand."""
    world = make_world()
    models = {id(world.policy.model)}
    counts = []
    real = Fit.step

    def step(fit):
        if fit.position != 1:
            return real(fit)
        gc.collect()
        objects = gc.get_objects()
        live = [o for o in objects if causal(o)]
        bytes_ = {p.data_ptr(): p.nbytes for m in live for p in m.parameters()}
        optimizers = [o for o in objects if type(o) is torch.optim.AdamW and o.state]
        counts.append(({id(m) for m in live}, sum(bytes_.values()), len(optimizers)))
        return real(fit)

    strangers = {id(o) for o in gc.get_objects() if causal(o)} - models  # of other tests, not collected yet
    monkeypatch.setattr(Fit, "step", step)
    state = world.begin()
    for _ in range(2):
        state = play_round(small(name), world, state)
    size = sum(p.nbytes for p in world.policy.model.parameters())
    assert len(counts) == 2
    for live, total, optimizers in counts:
        assert live - strangers == models
        assert strangers or total == size
        assert optimizers <= 1
    assert len(world.accelerator._optimizers) == 0


def test_tampered_anchors_are_refused_before_the_first_step(make_world):
    world, method = make_world(), small("dpo")
    state = world.begin()
    world.anchors(state, world.recorded(state), method.anchors)
    (file,) = world.store.folder.iterdir()
    stored = load_file(file)
    stored["logp"][0, 0] += 0.01
    save_file(stored, file)
    with pytest.raises(TrainingError, match="differs from its own anchor by"):
        play_round(method, world, state)
    assert world.journal.rounds_done() == 0


def test_anchors_are_those_of_the_kernels_that_score(make_world):
    """A run taken up where rows are padded does not read what packed rows gave: the two differ by rounding."""
    world = make_world()
    state, method = world.begin(), get("dpo")
    for reach, files in ((world.policy.scorer.max_packed_length, 1), (0, 2), (0, 2)):
        world.policy.scorer.max_packed_length = reach
        world.anchors(state, world.recorded(state), method.anchors)
        assert len(list(world.store.folder.iterdir())) == files


def test_step_zero_is_recorded_per_round(make_world):
    world = make_world()
    state = world.begin()
    for _ in range(2):
        state = play_round(small("spac"), world, state)
    lines = list(world.journal.lines("checks.jsonl"))
    assert [line["round"] for line in lines] == [1, 2]
    assert all(0 <= line["step_zero_log_ratio_per_token"] < 1e-5 for line in lines)


def test_another_policys_responses_and_scores_leave_the_model_as_it_was(make_world):
    world = make_world()
    state = play_round(small("dpo"), world, world.begin())
    held = {n: p.detach().clone() for n, p in world.policy.parameters()}
    rows = world.prompts(state)
    mine = world.sample(state, rows, START, 2).responses
    theirs = world.sample(state, rows, INITIAL, 2).responses
    assert all(torch.equal(held[n], p) for n, p in world.policy.parameters())
    recorded = world.recorded(state)
    a, b = (world.score(1, recorded, state.policies[name]) for name in (START, INITIAL))
    assert float((a - b).abs().max()) > 1e-3
    assert {r.ids for g in mine for r in g} and {r.ids for g in theirs for r in g}
    assert all(torch.equal(held[n], p) for n, p in world.policy.parameters())


def test_prompts_are_dealt_out_without_repeats(make_world):
    world = make_world(prompts_per_round=5)
    state = world.begin()
    dealt = []
    for _ in range(3):
        dealt += [p.ids for p in world.prompts(state).prompts]
        state = state.advance({START: "x"})
    assert len(dealt) == 15
    assert len(set(dealt[:12])) == 12


def test_a_round_without_comparisons_says_so(make_world):
    world = make_world()
    state = world.begin()
    with pytest.raises(TrainingError, match="round 1 has no comparisons"):
        world.anchors(state, world.recorded(state).take(np.array([], dtype=int)), {"reference": INITIAL})


@pytest.mark.parametrize(
    ("missing", "act", "says"),
    [
        ({"pool": ()}, lambda w, s: w.prompts(s), "needs prompts; give --data"),
        ({"pairs": None}, lambda w, s: w.recorded(s), "recorded responses; give --data"),
        ({"oracle": None}, lambda w, s: w.compare(w.prompts(s), None, None), "needs an oracle"),
    ],
)
def test_what_is_missing_is_named(make_world, missing, act, says):
    world = make_world(**missing)
    with pytest.raises(Exception, match=says):
        act(world, world.begin())
