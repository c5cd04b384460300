"""Evaluation and saving inside a fit: training keeps its bytes; figures are those of plain sums; the best is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from equipoise.methods.index import get
from equipoise.play.round import play_round
from equipoise.play.rows import Rows, objects
from equipoise.policy import checkpoint
from equipoise.policy.scoring import anchor_store
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.folder.manifest import WITHIN
from equipoise.worlds.text.fit import Fit
from equipoise.worlds.text.folder.best import CANDIDATE, HIGHER, WITHIN_A_FIT, Best
from equipoise.worlds.text.held_out import Watching, figures_of
from equipoise.worlds.text.scoring.frozen_scores import pairs_of

EVERY = Watching(steps=2, save=3, keep=1, best="accuracy")


@pytest.fixture
def held(pairs):
    return pairs.take(np.array([1, 3, 5, 6]))


def played(world, name="dpo"):
    """One round, and what a run does once it knows that the round is sound."""
    play_round(get(name), world, world.begin())
    Best(world.journal).accept()
    return world.journal


def lines(journal):
    return list(journal.lines(WITHIN))


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def worlds(make_world, tmp_path, held):
    """Worlds in folders of their own, from the same weights."""
    start = make_world().policy
    first = tmp_path / "first"
    checkpoint.save(start, first)

    def make(name, **changes):
        checkpoint.load_into(start, first)
        folder = tmp_path / name
        return make_world(
            journal=Journal(folder),
            store=anchor_store.AnchorStore(folder / "anchors"),
            held_out=held,
            **changes,
        )

    return make


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("ipo", "simpo")]


@pytest.mark.parametrize("name", ["dpo", *SLOWER])
def test_evaluation_and_saving_change_no_trained_byte(worlds, name):
    plain = played(worlds("plain"), name)
    generator = torch.get_rng_state()
    watched = played(worlds("watched", watching=EVERY), name)
    assert torch.equal(torch.get_rng_state(), generator)
    assert weights(plain.checkpoint(1)) == weights(watched.checkpoint(1))
    assert plain.metrics.read_bytes() == watched.metrics.read_bytes()
    assert not lines(plain) and [line["step"] for line in lines(watched)] == [2, 4]
    assert all(np.isfinite(line["loss"]) for line in lines(watched))


def test_figures_are_those_of_the_policy_as_it_is_read_back(worlds, held):
    """Loss, accuracy and margin of the saved policy, by plain transformers and DPO's formula."""
    world = worlds("run", watching=Watching(steps=2, save=2))
    journal = played(world)
    made = journal.checkpoints / "step-001-000002"
    logp = []
    for folder in (made, journal.checkpoint(0)):
        checkpoint.load_into(world.policy, folder)
        with torch.no_grad():
            logp.append(
                [
                    [summed(world.policy.model, prompt, response.ids) for response in group]
                    for prompt, group in pairs_of(held)
                ]
            )
    ratio = torch.tensor(logp[0], dtype=torch.float64) - torch.tensor(logp[1], dtype=torch.float64)
    margin = ratio[:, 0] - ratio[:, 1]
    beta, prob = get("dpo").objective.beta, torch.from_numpy(held.prob)
    loss = -prob * torch.nn.functional.logsigmoid(beta * margin)
    loss -= (1 - prob) * torch.nn.functional.logsigmoid(-beta * margin)
    weight = torch.from_numpy(held.weight)
    line = lines(journal)[0]
    assert line["loss"] == pytest.approx(float((weight * loss).sum() / weight.sum()), abs=1e-5)
    assert line["accuracy"] == pytest.approx(float((margin > 0).double().mean()))
    assert line["margin"] == pytest.approx(float(margin.mean()), abs=1e-4)
    assert line["chosen_log_ratio"] == pytest.approx(float(ratio[:, 0].mean()), abs=1e-4)


def summed(model, prompt, response):
    ids = torch.tensor([[*prompt, *response]])
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(logits.gather(1, ids[0, len(prompt) :, None]).sum())


@pytest.mark.slow
def test_a_fit_killed_between_evaluations_goes_on_as_if_never_killed(worlds, monkeypatch):
    whole = played(worlds("whole", watching=EVERY))
    step = Fit.step

    def killed(fit):
        if fit.position == 3:
            raise KeyboardInterrupt
        return step(fit)

    monkeypatch.setattr(Fit, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        played(worlds("killed", watching=EVERY))
    monkeypatch.setattr(Fit, "step", step)
    again = played(worlds("killed", watching=EVERY))
    assert weights(again.checkpoint(1)) == weights(whole.checkpoint(1))
    for name in (WITHIN, "metrics.jsonl", "best.json"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    there = [sorted(p.name for p in journal.checkpoints.iterdir()) for journal in (whole, again)]
    assert there[0] == there[1] == ["best", "initial", "round-001", "step-001-000003"]
    assert weights(again.checkpoints / "best") == weights(whole.checkpoints / "best")


@pytest.mark.slow
def test_policies_saved_inside_a_fit_are_policies(worlds, policy):
    """A saved policy is the one after that step: a shorter fit with the same schedule ends there."""
    world = worlds("run", watching=Watching(save=1, keep=2))
    journal = played(world)
    saved = sorted(p.name for p in journal.checkpoints.glob("step-*"))
    assert saved == ["step-001-000002", "step-001-000003"]
    checkpoint.load_into(policy, journal.checkpoints / saved[0])
    journal.manifest.verify(journal.checkpoints / saved[0])
    assert weights(journal.checkpoints / saved[0]) != weights(journal.checkpoints / saved[1])
    assert not lines(journal) and Best(journal).about is None


@pytest.mark.parametrize("metric", WITHIN_A_FIT)
def test_the_best_checkpoint_is_the_first_with_the_best_value(worlds, metric):
    journal = played(worlds("run", watching=Watching(steps=1, save=1, best=metric)))
    values = [line[metric] for line in lines(journal)]
    top = (max if HIGHER[metric] else min)(values)
    at = lines(journal)[values.index(top)]["step"]
    about = Best(journal).about
    assert (about["metric"], about["value"], about["step"]) == (metric, top, at)
    last = at == len(values)
    same = journal.checkpoint(1) if last else journal.checkpoints / f"step-001-{at:06d}"
    stored, best = (
        load_file(same / "model.safetensors"),
        load_file(Best(journal).folder / "model.safetensors"),
    )
    assert stored.keys() == best.keys() and all(torch.equal(stored[n], best[n]) for n in stored)


def test_a_fit_ends_when_its_metric_no_longer_improves(worlds, monkeypatch):
    losses = iter([0.5, 0.4, 0.45, 0.4, 0.1])
    monkeypatch.setattr(
        "equipoise.worlds.text.held_out.measured", lambda fit, held: {"loss": next(losses), "accuracy": 0.5}
    )
    world = worlds("run", watching=Watching(steps=1, best="loss", patience=2))
    world.training = world.trainer.training = replace(world.training, epochs=5)
    journal = played(world)
    assert [line["loss"] for line in lines(journal)] == [0.5, 0.4, 0.45, 0.4]
    assert Best(journal).about["step"] == 2
    assert len(list(journal.lines("metrics.jsonl"))) == 4 and journal.checkpoint(1).exists()


def test_modes_and_budget_are_as_before_also_after_an_error(worlds, monkeypatch):
    """Out of memory is repeated with less; dropout's mode and training's own budget come back."""
    world = worlds("run", watching=EVERY)
    seen = []
    scores = Fit.scores

    def short(fit, *arguments):
        if not torch.is_grad_enabled():
            seen.append((fit.policy.token_budget, fit.policy.model.training))
            if len(seen) == 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return scores(fit, *arguments)

    monkeypatch.setattr(Fit, "scores", lambda fit, *a, **k: scores(fit, *a, **k) if k else short(fit, *a))
    budget = world.policy.token_budget
    world.policy.model.train()
    played(world)
    assert seen[1][0] == budget // 2 and not any(training for _, training in seen)
    assert world.policy.token_budget == budget and world.policy.model.training


def test_unpaired_feedback_by_hand(pairs):
    """Desirable at 3 and 1, undesirable at 1 and 0: of four pairs three are right and one is a tie."""
    alone = objects([[group[0]] for group in pairs.responses[:4]], width=1)
    rows = Rows(prompts=pairs.prompts[:4], responses=alone, weight=np.ones(4), writers=("recorded",))
    rows = replace(rows, reward=np.array([[1.0], [0], [1], [0]]))
    figures = figures_of(np.array([[3.0], [1], [1], [0]]), rows)
    assert figures == {
        "accuracy": 3.5 / 4,
        "margin": 1.5,
        "chosen_log_ratio": 2.0,
        "rejected_log_ratio": 0.5,
    }
    assert figures_of(np.array([[3.0]]), rows.take(np.array([0])))["accuracy"] is None


def test_best_json_names_a_whole_policy(worlds, policy):
    journal = played(worlds("run", watching=EVERY))
    about = json.loads((journal.folder / "best.json").read_text())
    checkpoint.load_into(policy, journal.folder / about["folder"])
    journal.manifest.verify(journal.folder / about["folder"])


def test_what_a_fit_finds_best_is_a_candidate_until_its_round_is_accepted(worlds):
    world = worlds("run", watching=Watching(steps=1, best="accuracy"))
    play_round(get("dpo"), world, world.begin())
    best, candidate = Best(world.journal), Best(world.journal, CANDIDATE)
    assert best.about is None and not best.folder.exists()
    found = candidate.about
    stored = weights(candidate.folder)
    for _ in range(2):  # the second time there is nothing to accept
        best.accept()
        assert best.about == found | {"folder": "checkpoints/best"} and weights(best.folder) == stored
        assert candidate.about is None and not candidate.folder.exists()
    world.journal.manifest.verify(best.folder)
    world.journal.manifest.verify(candidate.folder)  # nothing is recorded of it any more
