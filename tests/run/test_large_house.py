"""Runs on the large tea house: its settings, a budget of judge calls, exact figures of its splits, resuming."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from equipoise.evaluate.large_game import chosen_prompts
from equipoise.playground.choice import game_of, is_large, reference_of, start_of
from equipoise.playground.language import LanguageGame
from equipoise.playground.large import CHECKPOINTS, LargeTeaHouse, checkpoint_path, enumerated_policy
from equipoise.playground.large.habits import habits
from equipoise.playground.offline import lists, pairs
from equipoise.run.config import ConfigError, resolve
from equipoise.run.round_end import budget_spent
from equipoise.run.session import align
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.folder.manifest import DamagedRun

SETTINGS: dict[str, Any] = {
    "panel": "length",
    "checkpoint": "weak",
    "play.rounds": 4,
    "play.prompts": 6,
    "play.samples": 4,
    "play.pairing": "disjoint",
    "train.batch": 12,
    "train.epochs": 1,
    "evaluate.prompts": 2,
    "evaluate.samples": 1,
    "evaluate.every": 4,
    "judging.budget": 30,
}


def test_a_panel_names_its_game_its_model_and_its_reference() -> None:
    assert is_large("rare") and not is_large("groups")
    assert game_of("groups") == LanguageGame("groups") and game_of("users", 3) == LargeTeaHouse("users", 3)
    assert start_of("skewed", "weak") == checkpoint_path("weak")
    assert reference_of("transitive", "mid").shape == (96, 24)
    with pytest.raises(ValueError, match="votes are counted in the large tea house"):
        game_of("groups", 2)
    with pytest.raises(ValueError, match="no panel 'cyclic'"):
        game_of("cyclic")
    with pytest.raises(ValueError, match="weak, mid, strong"):
        checkpoint_path("best")
    config = resolve("inpo", {"panel": "skewed"})
    assert config.game() == LargeTeaHouse("skewed") and config.start() == str(checkpoint_path("mid"))
    assert config.sampling.max_new_tokens > 30 >= resolve("inpo").sampling.max_new_tokens
    with pytest.raises(ConfigError, match="choose one of its panels"):
        resolve("inpo", {"votes": 3})


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_shipped_models_speak_the_grammar(name: str) -> None:
    whole, policy = enumerated_policy(name, given_inside=False), enumerated_policy(name)
    assert policy.shape == (128, 972)
    outside = 1 - whole.sum(1)
    assert outside.min() > 0 and outside.max() < {"weak": 0.05, "mid": 0.02, "strong": 0.02}[name]
    kl = (policy * (policy / habits()).log()).sum(1)
    assert kl.max() < {"weak": 0.6, "mid": 0.05, "strong": 0.05}[name]
    weights = sum(path.stat().st_size for path in checkpoint_path(name).iterdir())
    assert weights < 3 * 2**20


def test_recorded_feedback_is_of_the_house() -> None:
    game, reference = LargeTeaHouse("users"), habits()
    rows = pairs(game, 60, reference=reference, rationales=True, seed=3)
    assert {row["prompt"] for row in rows} <= {game.prompts[x] for x in game.train}
    assert {"rationale", "user_id"} <= rows[0].keys()
    for row in rows[:5]:
        x, a, b = (
            game.prompts.index(row["prompt"]),
            game.responses.index(row["chosen"]),
            game.responses.index(row["rejected"]),
        )
        assert row["meta"]["prob"] == pytest.approx(float(game.tables([x])[0, a, b]))


@pytest.mark.slow
def test_recorded_feedback_by_win_rates() -> None:
    game, reference = LargeTeaHouse("bradley_terry"), habits()
    lucky = pairs(game, 60, reference=reference, coverage="lucky", seed=3)
    assert sum(row["meta"]["lucky"] for row in lucky) == 1
    ranked = lists(game, 2, size=3, reference=reference)
    assert all(0 < reward < 1 for row in ranked for reward in row["rewards"])


def test_a_run_ends_before_a_round_that_would_pass_its_budget(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for round, calls in ((1, 12), (2, 10), (3, 0)):
        (tmp_path / "rounds" / f"{round:03d}").mkdir(parents=True)
        journal.note_calls(round, "judging", calls)
        journal.note_calls(round, "judging-again", 2 * bool(calls))
    assert [journal.judge_calls(round) for round in (1, 2, 3)] == [14, 12, 0]

    def spent(budget: int | None, done: int) -> bool:
        config: Any = SimpleNamespace(judging=SimpleNamespace(budget=budget))
        return budget_spent(journal, config, done)

    assert not spent(None, 2) and not spent(1, 0)
    assert not spent(38, 2) and spent(37, 2)  # 26 so far, and 12 more
    assert spent(25, 1) is True and spent(28, 1) is False
    path = journal.stage(2, "judging").with_suffix(".calls")
    path.write_text("11\n")
    with pytest.raises(DamagedRun, match=r"judging\.calls"):
        Journal(tmp_path).judge_calls(2)


@pytest.mark.slow
def test_a_run_is_measured_exactly_and_resumes(tmp_path: Path) -> None:
    whole = align("iterative_dpo", out=tmp_path / "whole", settings=SETTINGS, quiet=True, seed=2)
    lines = [json.loads(line) for line in (whole.folder / "evaluation.jsonl").read_text().splitlines()]
    assert [(line["round"], line["judge_calls"]) for line in lines] == [
        (0, 0),
        (2, 24),
    ]  # a third round has 36
    chosen = chosen_prompts(LargeTeaHouse(), 2)
    at, last = chosen["combinations"] + chosen["words"], lines[-1]
    splits = [last[f"exploitability_{name}"] for name in ("combinations", "words")]
    assert last["exploitability"] == pytest.approx(sum(splits) / 2)
    assert {"gold_win_rate", "gold_exploitability", "exploitability_train"} <= last.keys()
    assert last["gold_exploitability"] != last["exploitability"]
    assert lines[0]["outside"] == pytest.approx(
        float(1 - enumerated_policy("weak", given_inside=False)[at].sum(1).mean()), abs=1e-5
    )
    assert whole.summary["judge_calls"] == 24
    other = tmp_path / "other"
    shutil.copytree(whole.folder, other)
    for gone in ("summary.json", "report.html"):
        (other / gone).unlink()
    again = align("iterative_dpo", out=other, settings=SETTINGS, quiet=True, seed=2)
    assert again.summary["exact_win_rate"] == whole.summary["exact_win_rate"]
    weights = [
        (run.folder / "checkpoints/round-002/model.safetensors").read_bytes() for run in (whole, again)
    ]
    assert weights[0] == weights[1]
    assert torch.isfinite(torch.tensor(last["exact_kl"]))
