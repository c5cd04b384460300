"""The plan of a run: steps as they are taken, memory and disk by arithmetic, no folder left, what to change to fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.cli.app import main
from equipoise.playground import LanguageGame, load_model, model_path, reference_policy, write_pairs
from equipoise.run.config import resolve
from equipoise.run.planning import plan as planning
from equipoise.run.planning.costs import LORA_RANK, memory_of, shape_of
from equipoise.run.planning.plan import plan
from equipoise.run.session import align

SMALL = {
    "train.batch": 8,
    "train.lr": 3e-4,
    "evaluate.prompts": 2,
    "evaluate.samples": 1,
    "sampling.max_new_tokens": 6,
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    return write_pairs(path, LanguageGame(), 54, seed=1, reference=reference_policy())


def given(pairs: Path, **settings):
    return {"model.path": str(model_path()), "data.path": [str(pairs)]} | SMALL | settings


def test_one_step_is_said_to_be_one(pairs, tmp_path):
    made = plan(resolve("dpo", given(pairs, **{"train.batch": 64})), tmp_path / "run")
    assert (made.per_round, made.total) == (1, 1)
    assert any("ONE optimizer step a round" in line for line in made.lines())
    assert any("gate few_steps" in warning for warning in made.warnings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rounds", "settings"),
    [("dpo", 2, {"train.epochs": 3}), ("spac", 2, {}), ("inpo", 2, {"play.samples": 4})],
)
def test_the_steps_are_those_that_are_taken(pairs, tmp_path, method, rounds, settings):
    """Of recorded pairs exactly; of sampled ones up to those that turn out equal."""
    (tmp_path / "rule.py").write_text("def score(prompt, response): return len(response)\n")
    oracle = f"{tmp_path / 'rule.py'}:score" if method == "inpo" else None
    config = resolve(method, given(pairs, **settings), {"play.rounds": rounds, "oracle": oracle})
    made = plan(config)
    run = align(
        method,
        model=model_path(),
        data=pairs,
        oracle=oracle,
        rounds=rounds,
        out=tmp_path / "run",
        quiet=True,
        settings=SMALL | settings,
    )
    taken = len((run.folder / "metrics.jsonl").read_text().splitlines())
    assert made.total == pytest.approx(taken, rel=0 if method != "inpo" else 0.25)
    weights = sum(f.stat().st_size for f in (run.folder / "checkpoints").rglob("model.safetensors"))
    assert made.checkpoints == rounds + 1 and made.disk > weights
    assert {"training", "evaluating", "writing", "loading"} <= made.seconds.keys()


def test_sizes_are_the_models():
    shape, (model, _) = shape_of(resolve("dpo", {"model.path": str(model_path())})), load_model()
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    config = model.config
    assert (shape.layers, shape.width) == (config.num_hidden_layers, config.hidden_size)


def test_processes_divide_what_a_fit_holds(pairs):
    """Gradients and moments by four, weights in a fit alone; without a setting nothing, and in one process nothing."""
    config, shape = resolve("dpo", given(pairs)), shape_of(resolve("dpo", {"model.path": str(model_path())}))
    shared = resolve("dpo", given(pairs, **{"train.sharding": "full"}))
    alone = memory_of(config, shape, 0, 0, 0.0, processes=4)
    four, one = (memory_of(shared, shape, 0, 0, 0.0, processes=count) for count in (4, 1))
    size = 4.0 * shape.parameters
    assert (alone.weights, alone.gradients, alone.optimizer) == (size, size, 2 * size)
    assert (four.weights, four.gradients, four.optimizer) == (size, size / 4, size / 2)
    assert alone.total == one.total == 4 * size + alone.backward
    assert alone.second and not four.second and not four.backward
    assert four.total == max(
        size + four.sampling, size + four.gathered
    )  # 16 bytes by four, and what is whole
    assert 0 < four.gathered < 4 * size


def test_what_does_not_fit_is_said_with_what_would(pairs, monkeypatch):
    """On a machine with room for the weights and the adapters, but not for a full optimizer."""
    config = resolve("dpo", given(pairs))
    monkeypatch.setattr(planning, "probe", lambda *a: pytest.fail("a model was loaded"))
    monkeypatch.setattr(planning, "resident", lambda: 0.0)
    size = 4 * shape_of(resolve("dpo", {"model.path": str(model_path())})).parameters
    monkeypatch.setattr(planning, "machine_bytes", lambda device: 3.0 * size)
    made = plan(config)
    assert not made.fits and made.seconds == {}
    says = "\n".join(made.lines())
    assert f"model.lora_rank={LORA_RANK}" in says and "not measured: the model does not fit here" in says
    assert made.advice[0].endswith(", which does not fit either")


def test_the_command_prints_one_json_object(pairs, capsys):
    with pytest.raises(SystemExit) as end:
        main(
            ["plan", "dpo", "--model", str(model_path()), "--data", str(pairs), "--set", "batch=64", "--json"]
        )
    assert end.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 1 and found["fits"] and found["memory"]["weights"] > 0


@pytest.mark.slow
def test_a_limit_on_kept_checkpoints(pairs, tmp_path):
    run = align(
        "dpo",
        model=model_path(),
        data=pairs,
        rounds=4,
        out=tmp_path / "run",
        quiet=True,
        settings=SMALL | {"play.keep": 1, "evaluate.every": 4, "objective.parts": 4},
    )
    kept = sorted(folder.name for folder in (run.folder / "checkpoints").iterdir())
    assert kept == ["initial", "round-003", "round-004"]  # round 3 is still the policy "before"
    assert run.checkpoint.name == "round-004"
    again = align(
        "dpo",
        model=model_path(),
        data=pairs,
        rounds=4,
        out=tmp_path / "run",
        quiet=True,
        settings=SMALL | {"play.keep": 1, "evaluate.every": 4, "objective.parts": 4},
    )
    assert again.summary["kl"] == run.summary["kl"]


def test_a_judge_is_counted_and_not_asked(pairs, tmp_path):
    """Disjoint pairs of 4 samples in both orders: 4 questions a prompt; an evaluation: 1 sample each, 2 questions."""
    judge = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "price": {"input": 1, "output": 2}}
    (tmp_path / "judge.yaml").write_text(json.dumps(judge))
    settings = {"play.samples": 4, "play.prompts": 16, "play.pairing": "disjoint"}
    config = resolve(
        "ipo_md", given(pairs, **settings), {"play.rounds": 3, "oracle": str(tmp_path / "judge.yaml")}
    )
    made = plan(config, tmp_path / "run")
    assert made.asked is not None and not (tmp_path / "run").exists()
    assert 0 < made.asked["rounds"].questions <= 3 * 16 * 4
    assert 0 < made.asked["evaluation"].questions <= 4 * 2 * 2
    for stage in made.asked.values():  # 256 tokens are the longest answer
        assert stage.output_tokens == pytest.approx(256 * stage.questions, rel=0.1)
        assert stage.cost == pytest.approx((stage.input_tokens + 2 * stage.output_tokens) / 1e6)
    said = "\n".join(made.lines())
    assert "oracle    at most about" in said and "an estimate" in said and "stored" not in said


def test_verdicts_in_the_store_are_said(pairs, tmp_path):
    (tmp_path / "rule.py").write_text("def score(prompt, response): return len(response)\n")
    settings = {"play.samples": 4, "play.prompts": 8, "judging.store": str(tmp_path / "v.sqlite")}
    config = resolve("inpo", given(pairs, **settings), {"oracle": f"{tmp_path / 'rule.py'}:score"})
    assert plan(config).stored[0] > 0  # a rule costs nothing: it was asked
    assert any("verdicts of this oracle" in line for line in plan(config).lines())
