"""The page: self-contained, escaped, whole or absent; figures drawn without touching global state."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from equipoise.report.run.figures import FIGURES, draw, smooth
from equipoise.report.run.load import RunFolderError, load_run
from equipoise.report.run.page import write_report
from equipoise.report.run.self_tests import self_tests


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def check_closed(page: Page) -> None:
    """No script, no handler, no link out, nothing loaded but inline images."""
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "base", "form", "a", "svg"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in {"href", "style", "srcdoc", "action"}, (tag, name)
        if name == "src":
            assert tag == "img"
            assert base64.b64decode(value.removeprefix("data:image/png;base64,"))[:4] == b"\x89PNG"
    policies = [value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    style = page.source.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page.source)


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


def test_every_figure_is_written_and_shown(make_run) -> None:
    folder = make_run(3)
    page = Page(write_report(folder))
    names = {path.name for path in (folder / "figures").iterdir()}
    others = ("within_fits", "scores", "directions")  # evaluated inside fits; an oracle with named scores
    drawn = [name for name, *_ in FIGURES if name not in others]
    assert names == {f"{name}.png" for name in drawn}
    assert page.source.count("<img ") == len(drawn)
    assert all(value for tag, name, value in page.attributes if tag == "img" and name == "alt")
    assert not list(folder.rglob(".*partial"))


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
        environment=None,
        ledger=None,
    )
    page = Page(write_report(folder))
    check_closed(page)
    assert "img" not in page.tags
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
    assert (folder / "figures/training.png").exists()


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


def test_drawing_leaves_no_trace_and_repeats_itself(make_run) -> None:
    run = load_run(make_run(1))
    settings = dict(matplotlib.rcParams)
    first, second = draw(run), draw(run)
    assert dict(matplotlib.rcParams) == settings
    assert [p.png for p in first] == [p.png for p in second]


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
