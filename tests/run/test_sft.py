"""Supervised fine-tuning as a run, and as the phase before another method's rounds."""

from __future__ import annotations

import json

import pytest
import torch

import equipoise as eq
from equipoise.data.rendering.render import load_tokenizer
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_tensors
from equipoise.run import session
from equipoise.run.config import ConfigError, resolve
from equipoise.worlds.text.fit import Fit

FEW = {
    "train.batch": 64,
    "evaluate.prompts": 4,
    "evaluate.samples": 1,
    "evaluate.pairs": 8,
    "sampling.max_new_tokens": 10,
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    write_pairs(path, LanguageGame(), 40, seed=3, reference=reference_policy())
    return path


def weights(folder):
    return read_tensors(folder / "model.safetensors")[0]


def test_the_loss_is_that_of_transformers_on_the_answers_alone(tmp_path, pairs, monkeypatch):
    """The first step's loss, against `model(input_ids, labels)` of transformers on the same conversations."""
    seen = {}
    step = Fit.step

    def watched(fit):
        figures = step(fit)
        seen.setdefault("rows", fit.rows), seen.setdefault("loss", figures["loss"])
        return figures

    monkeypatch.setattr(Fit, "step", watched)
    # one step of all rows, so that the order does not matter
    run = eq.align("sft", model=model_path(), data=pairs, out=tmp_path / "run", settings=FEW, quiet=True)
    policy = CausalPolicy.load(model_path(), load_tokenizer(str(model_path())), device="cpu")
    total, tokens = 0.0, 0
    for prompt, (response,) in zip(seen["rows"].prompts, seen["rows"].responses, strict=True):
        ids = torch.tensor([[*prompt.ids, *response.ids]])
        labels = ids.clone()
        labels[0, : len(prompt.ids)] = -100
        with torch.no_grad():
            loss = float(policy.model(input_ids=ids, labels=labels).loss)
        total, tokens = total + loss * len(response.ids), tokens + len(response.ids)
    assert len(seen["rows"]) <= 64 and seen["loss"] == pytest.approx(total / tokens, rel=1e-5)
    assert run.summary["method"] == "sft" and run.summary["accuracy"] is None


@pytest.mark.slow
def test_a_phase_makes_the_policy_that_the_rounds_start_from(tmp_path, pairs, monkeypatch):
    settings = FEW | {"play.phases": {"sft": {"train.lr": 1e-3}}, "train.lr": 1e-4}
    about = {
        "model": model_path(),
        "data": pairs,
        "out": tmp_path / "run",
        "settings": settings,
        "quiet": True,
    }
    run = eq.align("dpo", **about)
    phase = tmp_path / "run" / "phases" / "sft"
    made, begun = (
        weights(phase / "checkpoints" / "round-001"),
        weights(run.folder / "checkpoints" / "initial"),
    )
    assert made.keys() == begun.keys() and all(torch.equal(made[name], begun[name]) for name in made)
    before = weights(phase / "checkpoints" / "initial")
    assert any(not torch.equal(made[name], before[name]) for name in made), "the phase trained"
    assert json.loads((run.folder / "summary.json").read_text())["phases"] == ["sft"]
    assert run.summary["step_zero_log_ratio_per_token"] < 1e-5
    monkeypatch.setattr(Fit, "step", lambda _: pytest.fail("trained again"))
    assert eq.align("dpo", **about).summary["kl"] == run.summary["kl"]


def test_names_alone_are_phases_without_settings():
    assert resolve("dpo", {"play.phases": ["sft"]}).play.phases == {"sft": {}}
    with pytest.raises(ConfigError, match="phases"):
        resolve("dpo", {"play.phases": [1]})


def test_a_phase_that_cannot_be_is_refused_before_a_model_is_loaded(tmp_path, pairs, monkeypatch):
    monkeypatch.setattr(CausalPolicy, "load", lambda *a, **k: pytest.fail("a model was loaded"))
    for phases, says in (
        ({"stf": {}}, "phase stf: .*did you mean 'sft'"),
        ({"sft": {"lrr": 1}}, "phase sft: unknown setting 'lrr'"),
    ):
        with pytest.raises(ConfigError, match=says):
            eq.align(
                "dpo", model=model_path(), data=pairs, out=tmp_path / "run", settings={"play.phases": phases}
            )


@pytest.mark.slow
def test_an_adapter_goes_on_from_its_phase(tmp_path, pairs):
    """LoRA: the reference of the rounds is the adapter that the phase trained, on the same weights below."""
    settings = FEW | {"play.phases": {"sft": {"train.lr": 1e-2}}, "model.lora_rank": 2}
    run = eq.align("dpo", model=model_path(), data=pairs, out=tmp_path / "run", settings=settings, quiet=True)
    policy = CausalPolicy.load(model_path(), load_tokenizer(str(model_path())), device="cpu", lora_rank=2)
    start = {name: p.detach().clone() for name, p in policy.parameters()}
    checkpoint.load_into(policy, run.folder / "checkpoints" / "initial")
    assert all("lora" in name for name in start)
    assert any(not torch.equal(p, start[name]) for name, p in policy.parameters())
    assert session.Journal(run.folder).checkpoint(1).exists()
