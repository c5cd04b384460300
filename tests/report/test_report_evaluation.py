"""What the tables of an evaluation show, however narrow the terminal."""

from __future__ import annotations

import io
import re

from rich.console import Console

from equipoise.report.evaluation import print_evaluation


def interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 16}


def printed(results: dict[str, object], width: int) -> str:
    stream = io.StringIO()
    print_evaluation(results, Console(file=stream, width=width))
    return stream.getvalue()


def test_no_figure_is_cut_off_in_a_narrow_terminal():
    names = ["a_model_with_a_long_name", "another_with_a_long_name", "a_third_with_a_long_name"]
    text = printed({"own": {name: {"reward": interval(12345.5, 12000.5, 12999.5)} for name in names}}, 40)
    assert "…" not in text


def test_verdicts_are_counted_in_whole_numbers():
    text = printed({"oracle": "r", "judge": {"answered": 16, "stored": 58, "failed": 0, "cost": 0.25}}, 80)
    counts = dict(re.findall(r"^(.*\S)\s\s+(\S+)$", text, re.MULTILINE))
    assert counts["new verdicts"] == "16"
    assert counts["verdicts read back"] == "58"
    assert counts["questions without a verdict"] == "0"
