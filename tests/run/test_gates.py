"""Gates: judged before compute where possible, recorded, allowed by name, shown in the report."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from equipoise.data.errors import DataError
from equipoise.methods.index import get
from equipoise.playground import LanguageGame, model_path
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import Measured
from equipoise.run.config import resolve
from equipoise.run.docs.gates import markdown
from equipoise.run.gate_checks import before_a_model, steps
from equipoise.run.materials import gather
from equipoise.run.session import align
from equipoise.worlds.text.folder.gate_list import ALLOWABLE, GATES
from equipoise.worlds.text.folder.gates import GateClosed, Gates, read

ROOT = Path(__file__).resolve().parents[2]
PROMPTS, (BETTER, WORSE) = LanguageGame().prompts, LanguageGame().responses[:2]
GOOD = [{"prompt": PROMPTS[i], "chosen": BETTER, "rejected": WORSE} for i in range(4)]
SETTINGS = {
    "evaluate.prompts": 2,
    "evaluate.samples": 1,
    "train.batch": 4,
    "sampling.max_new_tokens": 2,
}


def written(tmp_path: Path, rows: list[dict]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def play(tmp_path: Path, rows: list[dict], method: str = "dpo", **more):
    settings = SETTINGS | more.pop("settings", {})
    return align(
        method,
        model=model_path(),
        data=written(tmp_path, rows),
        out=tmp_path / "run",
        quiet=True,
        settings=settings,
        **more,
    )


def test_the_page_is_current_and_names_everything():
    page = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m equipoise.run.docs.gates > docs/gates.md"
    assert all(f"`{name}`" in page or f"--allow {name}" in page for name in ALLOWABLE)


@pytest.mark.parametrize(
    ("name", "rows", "settings"),
    [
        ("refused_rows", GOOD + [{"prompt": "p", "chosen": "", "rejected": "b"}] * 5, {}),
        ("truncation", [row | {"chosen": f"{BETTER} " * 8} for row in GOOD], {"data.max_length": 40}),
    ],
)
def test_bad_data_are_refused_before_a_model_is_loaded_unless_allowed(
    tmp_path, monkeypatch, name, rows, settings
):
    with monkeypatch.context() as patch:
        patch.setattr(CausalPolicy, "load", lambda *a, **k: pytest.fail("a model was loaded"))
        with pytest.raises(
            GateClosed, match=rf"{GATES[name].remedy}, or go on regardless with --allow {name}"
        ):
            play(tmp_path, rows, settings=settings)
    assert not (tmp_path / "run").exists()
    run = play(tmp_path, rows, settings=settings, allow=[name])
    (line,) = [gate for gate in read(run.folder / "gates.json") if gate["name"] == name]
    assert (line["passed"], line["allowed"]) == (False, True)
    page = run.report.read_text(encoding="utf-8")
    assert f"{name} (allowed)" in page and line["sentence"].split(" (")[0] in page
    measured = {gate["name"]: gate["measured"] for gate in read(run.folder / "gates.json")}
    assert {"step_zero", "refused_rows", "truncation", "few_steps", "no_sample_ended"} <= measured.keys()


def test_rows_of_weight_zero_are_left_out_with_a_count(tmp_path):
    rows = [GOOD[0] | {"prompt": PROMPTS[i], "weight": i % 3} for i in range(15)]
    path = written(tmp_path, rows)
    found = gather(resolve("dpo", {"model.path": str(model_path()), "data.path": [str(path)]}), tmp_path)
    held = {prompt.ids for prompt in found.unseen}
    training = [row for row in rows if found.renderer.prompt(row["prompt"]) not in held]
    weights = sorted(row["weight"] for row in training if row["weight"])
    assert sorted(found.pairs.weight) == weights
    left_out = len(training) - len(weights)
    assert f"{left_out} rows of weight 0 left out of training" in found.dataset.ledger.notes


def test_weights_that_are_all_zero_are_refused_with_file_and_line(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl:\d+.*every row has weight 0"):
        play(tmp_path, [row | {"weight": 0} for row in GOOD])
    assert not (tmp_path / "run").exists()


def test_few_optimizer_steps_are_told(tmp_path):
    run = play(tmp_path, GOOD)
    (line,) = [gate for gate in read(run.folder / "gates.json") if gate["name"] == "few_steps"]
    assert (line["measured"], line["passed"]) == (1, False)


@pytest.mark.parametrize(
    "method, settings, counted",
    [
        ("spac", {"model.path": "m"}, 49),  # a fit, of three
        ("online_dpo", {"model.path": "m"}, 4900),  # a round is a few gradient steps
        ("spac", {}, 147),  # the built-in game
    ],
)
def test_steps_are_counted_by_fit_or_by_run(method, settings, counted):
    found = steps(49, get(method), resolve(method, settings))
    assert (found.measured, found.limit, found.passed) == (counted, 50, counted >= 50)
    assert f"about {counted:,} optimizer steps" in found.sentence
    assert ("hardly been trained" in found.sentence) == (not found.passed)


class Judge:
    """A reward model with a context of 100 tokens, for which a prompt has as many tokens as letters."""

    name = "short"

    def room(self, prompts):
        return max(map(len, prompts)), 100


@pytest.mark.parametrize("over", [0, 1])
def test_a_reward_models_context_is_judged_before_sampling(tmp_path, over):
    path, longest = written(tmp_path, GOOD), max(len(row["prompt"]) for row in GOOD)
    given = {"data.path": [str(path)], "sampling.max_new_tokens": 100 - longest + over}
    config = resolve("dpo", {"model.path": str(model_path())}, given)
    materials = replace(gather(config, tmp_path), oracle=Judge())
    (found,) = [one for one in before_a_model(config, materials) if one.name == "reward_context"]
    assert (found.measured, found.limit, found.passed) == (100 + over, 100, not over)
    assert f"short accepts 100 tokens; the longest prompt has {longest} there" in found.sentence


def closed(name: str) -> Measured:
    return Measured(name=name, measured=math.nan, limit=0.0, passed=False, sentence="it is so")


def test_a_closed_gate_ends_the_run_or_warns(tmp_path, capsys):
    gates = Gates(folder=tmp_path)
    with pytest.raises(GateClosed, match=r"it is so; .*--allow step_zero"):
        gates.judge(closed("step_zero"), 2)
    gates.judge(closed("few_steps"))
    assert "warning   it is so" in capsys.readouterr().err
    Gates(folder=tmp_path, allowed=["step_zero"]).judge(closed("step_zero"), 2)
    lines = read(tmp_path / "gates.json")
    assert [(line["name"], line["round"], line["allowed"], line["measured"]) for line in lines] == [
        ("few_steps", 0, False, None),
        ("step_zero", 2, True, None),
    ]
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(GateClosed):  # a process that does not write judges alike
        Gates(folder=other, main=False).judge(closed("step_zero"))
    assert list(other.iterdir()) == []
