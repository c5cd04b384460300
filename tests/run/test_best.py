"""The best checkpoint of a run: chosen after rounds or inside fits, in the summary and the report; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
from equipoise.playground import LanguageGame, reference_policy, write_pairs
from equipoise.policy.protocol import Measured
from equipoise.report.run.charts import charts_of
from equipoise.report.run.load import load_run
from equipoise.run.config import ConfigError, resolve
from equipoise.run.sections.evaluation import EvaluateSettings
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.text.folder.best import HIGHER, WITHIN_A_FIT

SMALL: dict[str, Any] = {
    "evaluate.prompts": 4,
    "evaluate.samples": 2,
    "train.batch": 8,
    "train.lr": 1e-3,
    "sampling.max_new_tokens": 10,
}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, LanguageGame(), 40, seed=3, reference=reference_policy())
    return path


@pytest.mark.slow
def test_the_best_round_is_kept_when_later_rounds_are_worse(pairs: Path, tmp_path: Path) -> None:
    """At accuracies that fall, round 1 stays in checkpoints/best although only the last round is kept."""
    settings = SMALL | {"play.keep": 1, "play.rounds": 2, "evaluate.best": "accuracy", "parts": 2}
    run = eq.align("dpo", data=pairs, out=tmp_path / "run", settings=settings, quiet=True)
    lines = [json.loads(line) for line in (run.folder / "evaluation.jsonl").read_text().splitlines()]
    values = [line["accuracy"]["value"] for line in lines[1:]]
    best = run.summary["best"]
    assert best["value"] == max(values) and best["round"] == 1 + values.index(max(values))
    assert run.best is not None and (run.best / "model.safetensors").is_file()
    assert "Best checkpoint" in run.report.read_text()


@pytest.mark.slow
def test_a_round_that_left_the_support_does_not_replace_the_best_checkpoint(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accuracy rises with every step, and round 2 is refused: the best is of round 1, until round 2 is allowed."""
    rising = iter(range(1, 100))

    def measured(fit: Any, held: Any) -> dict[str, Any]:
        return {"loss": None, "accuracy": next(rising) / 100}

    def judged(reference: Any, line: dict[str, Any]) -> Measured:
        return Measured(
            name="support", measured=2.0, limit=1.0, passed=line["round"] != 2, sentence="round 2 left"
        )

    monkeypatch.setattr("equipoise.worlds.text.held_out.measured", measured)
    monkeypatch.setattr("equipoise.run.round_end.support", judged)
    settings = SMALL | {"play.rounds": 2, "evaluate.best": "accuracy", "evaluate.steps": 2, "parts": 2}

    def play(**more: Any) -> Any:
        return eq.align("dpo", data=pairs, out=tmp_path / "run", settings=settings, quiet=True, **more)

    run = play()
    lines = [json.loads(line) for line in (run.folder / "within_fits.jsonl").read_text().splitlines()]
    assert {line["round"] for line in lines} == {1, 2} and run.summary["delivered"] == 1
    assert run.summary["best"]["round"] == 1
    assert run.summary["best"]["value"] == max(line["accuracy"] for line in lines if line["round"] == 1)
    kept = (run.best / "model.safetensors").read_bytes()
    assert kept == (run.folder / "checkpoints/round-001/model.safetensors").read_bytes()
    on = play(allow=["support"])
    assert on.summary["best"]["round"] == 2
    assert on.summary["best"]["value"] == max(line["accuracy"] for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kto", "sft", "tdpo1", "spac"])
def test_methods_of_every_kind_are_evaluated_inside_their_fits(
    pairs: Path, tmp_path: Path, name: str
) -> None:
    """Unpaired feedback, demonstrations, live references, three columns: and the report draws them.

    A loss that reads a further response than the held-out rows have (KTO's unrelated one, SPAC's own) is not measured.
    """
    settings = SMALL | {"evaluate.steps": 2, "play.rounds": 1, "train.save_steps": 3, "train.keep": 1}
    run = eq.align(name, data=pairs, out=tmp_path / "run", settings=settings, quiet=True)
    lines = [json.loads(line) for line in (run.folder / "within_fits.jsonl").read_text().splitlines()]
    assert lines and all((line["loss"] is None) == (name in ("kto", "spac")) for line in lines)
    assert all((line["accuracy"] is None) == (name == "sft") for line in lines)
    drawn = {
        chart.name
        for chart in charts_of(load_run(run.folder))
        for line in chart.lines
        if line.name == "held out"
    }
    measured = {
        name for name in ("accuracy", "margin", "loss") if any(line[name] is not None for line in lines)
    }
    assert drawn == measured


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"evaluate.best": "margin"}, "best: margin is measured inside fits: set evaluate.steps"),
        ({"evaluate.patience": 2}, "patience needs evaluate.steps"),
        ({"evaluate.patience": 2, "evaluate.steps": 5, "evaluate.best": "win_rate"}, "patience needs"),
        (
            {"evaluate.best": "loss", "evaluate.steps": 5, "play.rounds": 2},
            "every round has a loss of its own",
        ),
        ({"evaluate.best": "bleu"}, 'must be one of "none"'),
        ({"evaluate.steps": -1}, "evaluate.steps must be a whole number at least 0"),
        ({"train.keep": 0}, "train.keep"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve("dpo", settings)


@pytest.mark.parametrize(
    "method, settings, says",
    [
        ("dpo", {"evaluate.best": "win_rate"}, "win_rate needs an oracle"),
        ("dpo", {"evaluate.best": "exploitability"}, "computed on the playground only"),
    ],
)
def test_what_a_run_cannot_measure_is_refused_before_a_model(
    pairs: Path, tmp_path: Path, method: str, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        eq.align(method, data=pairs, out=tmp_path / "run", settings=SMALL | settings, quiet=True)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    "method, best, says",
    [("spac", "loss", "reads 3 responses"), ("sft", "accuracy", "no responses of both kinds")],
)
def test_a_best_that_cannot_be_measured_ends_before_the_first_step(
    pairs: Path, tmp_path: Path, method: str, best: str, says: str
) -> None:
    settings = SMALL | {"evaluate.steps": 1, "evaluate.best": best, "play.rounds": 1}
    with pytest.raises(
        TrainingError, match=f"evaluate.best: {best} cannot be measured on held-out rows: .*{says}"
    ):
        eq.align(method, data=pairs, out=tmp_path / "run", settings=settings, quiet=True)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_every_metric_that_can_be_set_says_which_way_is_better() -> None:
    field = EvaluateSettings.model_fields["best"].annotation
    assert set(field.__args__) - {"none"} == HIGHER.keys()  # type: ignore[union-attr]
    assert set(WITHIN_A_FIT) == {"accuracy", "margin", "loss"}
