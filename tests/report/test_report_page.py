"""The page: self-contained, escaped, whole or absent; nothing runs in it but the two scripts that it carries."""

from __future__ import annotations

import json

import numpy as np
import pytest

from equipoise.report.run.charts import charts_of
from equipoise.report.run.load import RunFolderError, load_run
from equipoise.report.run.matrix import matrix_of
from equipoise.report.run.page import write_report
from equipoise.report.run.self_tests import self_tests
from equipoise.report.run.step_charts import smooth
from report_pages import Page, check_closed


def test_the_page_is_closed_and_hostile_text_is_text(make_run) -> None:
    folder = make_run(3)
    page = Page(write_report(folder))
    check_closed(page)
    for text in (
        "<script>alert(1)</script>",
        "{{7*7}}",
        "onerror=alert(1)",
        "مرحبا",
        "🦊",
        "refused: empty response",
    ):
        assert text in page.text
    assert "equipoise align spac --data 'my <data>.jsonl'" in page.text
    assert "a.jsonl:3; a.jsonl:9" in page.text
    assert "= the sum of the rows above" in page.text


def test_every_chart_is_there_with_its_name_and_its_values(make_run) -> None:
    """Every chart of a run with everything; win rates, 0.5 + 0.24 (1 - exp(-0.8 r)), are in the table under it."""
    folder = make_run(3)
    page = Page(write_report(folder))
    names = [chart.name for chart in charts_of(load_run(folder))]
    assert names == [
        "win_rate", "outcomes", "exploitability", "accuracy", "margin", "margins", "log_ratios", "kl", "length",
        "length_and_win", "entropy", "loss", "grad_norm", "learning_rate",
    ]  # fmt: skip
    drawn = [value for tag, name, value in page.attributes if tag == "div" and name == "id"]
    assert drawn == [f"chart-{name}" for name in names]
    said = [value for tag, name, value in page.attributes if tag == "div" and name == "aria-label"]
    assert any(text.startswith("Win rate against the reference: sampled 50.0 % at round 0") for text in said)
    assert "71.8 % (67.8 % to 75.8 %)" in page.text
    (data,) = [json.loads(text) for kind, text in page.scripts if kind == "application/json"]
    assert [item["target_id"] for item in data] == drawn


def test_the_same_run_gives_the_same_page(make_run) -> None:
    folder = make_run(2)
    assert write_report(folder).read_bytes() == write_report(folder).read_bytes()


def test_a_win_matrix_has_both_sides_of_each_meeting(make_run) -> None:
    """Round 2 beats round 1 with 0.58, so round 1 wins 0.42 against it."""
    matrix = matrix_of(load_run(make_run(2)))
    assert matrix is not None and matrix.exact and matrix.rounds == (0, 1, 2)
    assert [[cell.text for cell in cells] for _, cells in matrix.rows] == [
        ["–", "42.0 %", "34.0 %"],
        ["58.0 %", "–", "42.0 %"],
        ["66.0 %", "58.0 %", "–"],
    ]
    assert matrix_of(load_run(make_run(1, name="one"))) is None


def test_the_last_round_comes_first_with_what_it_met_and_the_verdict(make_run) -> None:
    page = Page(write_report(make_run(3)))
    at = [
        page.text.index(text)
        for text in ("Round 3", "wins against the reference's: 75.0 %", "Earlier rounds", "Round 2")
    ]
    assert at == sorted(at)
    assert "The reference wrote this." in page.text


def test_the_head_names_rate_batch_steps_and_lora(make_run) -> None:
    config = {
        "method": "dpo",
        "train": {"lr": 2e-5, "batch": 16, "schedule": "linear"},
        "model": {"lora_rank": 8},
    }
    text = Page(write_report(make_run(3, config=config))).text
    for fact in (
        "Learning rate",
        "2e-05, linear",
        "Batch",
        "16",
        "Optimizer steps",
        "180",
        "LoRA, rank 8, alpha 16",
    ):
        assert fact in text
    assert "equipoise align --config run/config.yaml --out run-again" in text


@pytest.mark.parametrize("rounds", [0, 1])
def test_short_runs(make_run, rounds: int) -> None:
    page = Page(write_report(make_run(rounds)))
    check_closed(page)
    assert "Headline figures" in page.text


def test_a_run_without_numbers_draws_nothing_and_says_so(make_run) -> None:
    folder = make_run(
        2,
        evaluation=[{"round": r, "win_rate": None, "kl": {"value": None}} for r in range(3)],
        metrics=[{"round": 1, "step": 1, "loss": None}],
        timings=[],
        samples=[],
        verdicts=None,
        held_out=None,
        win_matrix=None,
        environment=None,
        ledger=None,
    )
    page = Page(write_report(folder))
    check_closed(page)
    assert "script" not in page.tags and "figure" not in page.tags
    assert "No evaluation was recorded." in page.text
    assert "The command was not recorded." in page.text
    assert "environment.json is missing" in page.text


def test_an_unbalanced_ledger_is_visible(make_run) -> None:
    page = Page(write_report(make_run(0, ledger={"read": 10, "used": 7, "refused": {"empty": 1}})))
    assert "does not balance: 2 missing" in page.text


def test_losses_that_are_not_finite_still_draw(make_run, lines) -> None:
    metrics = lines["metrics"](
        2, loss=lambda r, i: float("nan") if i > 30 else 0.6, grad_norm=lambda r, i: float("inf")
    )
    folder = make_run(2, metrics=metrics)
    page = Page(write_report(folder))
    assert "A loss or gradient is not finite" in page.text
    names = [chart.name for chart in charts_of(load_run(folder))]
    assert "loss" in names and "grad_norm" not in names


def test_lone_surrogates_do_not_stop_the_page(make_run) -> None:
    sample = {
        "round": 0,
        "prompt_index": 0,
        "prompt": "p",
        "response": "broken \ud83d half",
        "finished": True,
    }
    assert "broken ? half" in Page(write_report(make_run(0, samples=[sample]))).text


def test_a_broken_folder_leaves_the_old_report_alone(make_run) -> None:
    folder = make_run(1)
    before = write_report(folder).read_bytes()
    (folder / "evaluation.jsonl").write_text("{}\n")
    with pytest.raises(RunFolderError, match="line 1: round"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before


def test_smoothing_keeps_a_line_and_skips_gaps() -> None:
    line = np.arange(20, dtype=float)
    assert smooth(line, 5)[2:-2] == pytest.approx(line[2:-2])
    holes = np.where(np.arange(9) == 4, np.nan, 1.0)
    assert smooth(holes, 3) == pytest.approx(np.ones(9))
    assert np.isnan(smooth(np.full(9, np.nan), 3)).all()


def test_self_written_tests_are_counted_by_round(tmp_path) -> None:
    """Two problems of round 1: three of four codes and three of four tests are read, and three of eight cells pass."""
    lines = [
        {"round": 1, "codes_read": 2, "tests_read": 1, "passed": [[1, 0], [1, 0]]},
        {"round": 1, "codes_read": 1, "tests_read": 2, "passed": [[1, 0], [0, 0]]},
        {"round": 2, "codes_read": 2, "tests_read": 2, "passed": [[1, 1], [1, 1]]},
        {"round": 2, "codes_read": 2, "tests_read": 2, "passed": []},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "no line\n[]\n"
    (tmp_path / "self_tests.jsonl").write_text(text)
    assert self_tests(tmp_path) == [
        (1, 2, "75.0 %", "75.0 %", "37.5 %"),
        (2, 1, "100.0 %", "100.0 %", "100.0 %"),
    ]
    assert self_tests(tmp_path / "nowhere") == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308])
def test_steps_that_are_not_finite_are_a_finding_and_not_a_figure(make_run, lines, value: float) -> None:
    names = ("loss", "chosen_log_ratio", "rejected_log_ratio", "grad_norm", "saturated", "lr")
    steps = lines["metrics"](1, **{name: lambda r, i: value if i > 40 else 0.1 for name in names})
    evaluation = lines["evaluation"](1, chosen_log_ratio=lambda r: None, rejected_log_ratio=lambda r: None)
    page = write_report(make_run(1, metrics=steps, evaluation=evaluation)).read_text("utf-8")
    text = page.split("<h2>Charts</h2>")[0]
    assert "A loss or gradient is not finite" in text
    assert "displacement" not in text
    assert "saturated" not in text


def test_settings_of_any_type_are_shown(make_run) -> None:
    config = {
        "method": "dpo",
        "train": {"lr": "<b>fast</b>", "schedule": ["cosine"], "clip": float("inf")},
        "model": {"lora_rank": 4, "lora_alpha": "twice"},
        "objective": {"thresholds": {"help": float("nan")}},
    }
    page = write_report(make_run(1, config=config)).read_text("utf-8")
    assert "LoRA, rank 4, alpha twice" in page
    assert "&lt;b&gt;fast&lt;/b&gt;, cosine" in page


def test_a_win_rate_outside_its_range_has_a_shade(make_run) -> None:
    rows = [{"round": r, "against": 0, "win_rate": {"value": v}} for r, v in ((1, -3.0), (2, 1e99))]
    cells = [cell.shade for _, row in matrix_of(load_run(make_run(2, win_matrix=rows))).rows for cell in row]
    assert {shade for shade in cells if shade is not None} == {0, 9}
