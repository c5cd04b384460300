"""The metric table is the page docs/metrics.md and covers every field that is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.report.numbers import duration, percent, plain
from equipoise.report.run import explain, metrics
from equipoise.report.run.metrics import BY_NAME, METRICS
from equipoise.report.run.records import Estimate, Round, Step

DOCS = Path(__file__).parents[2] / "docs"


def test_docs_are_what_the_code_prints() -> None:
    for name, text in (("metrics.md", metrics.markdown()), ("diagnosis.md", explain.markdown())):
        got = (DOCS / name).read_text(encoding="utf-8")
        assert got == text, f"docs/{name} is stale: its first lines say how to print it"


def test_every_recorded_field_is_defined() -> None:
    for record, per, keys in (
        (Round, ("round", "score"), {"round"}),
        (Step, ("step",), {"round", "step", "epoch"}),
    ):
        assert {m.name for m in METRICS if m.per in per} == set(record.model_fields) - keys


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (-2.567, "−2.57"),
        (1234567, "1,234,567"),
        (3e-6, "3.00e−06"),
        (999.96, "1,000"),
    ],
)
def test_plain(value: float, text: str) -> None:
    assert plain(value) == text


def test_percent_never_rounds_to_certainty() -> None:
    texts = [percent(share) for share in (0, 0.0002, 0.7123, 0.99999, 1)]
    assert texts == ["0.0 %", "< 0.1 %", "71.2 %", "> 99.9 %", "100.0 %"]


def test_duration() -> None:
    assert [duration(s) for s in (4.21, 59.99, 200, 7500)] == ["4.2 s", "60.0 s", "3 min 20 s", "2 h 05 min"]


def test_intervals_and_missing_values() -> None:
    rate, kl = BY_NAME["win_rate"], BY_NAME["kl"]
    assert rate.show(None) == "–"
    assert rate.show(float("nan")) == "not finite"
    assert rate.show_interval(Estimate(value=0.5, low=0.46, high=0.54)) == "46.0–54.0 %"
    assert kl.show_interval(Estimate(value=0.5, low=-0.1, high=1.1)) == "−0.100 to 1.10"
    assert rate.show_interval(Estimate(value=0.5)) == rate.show_interval(None) == ""
