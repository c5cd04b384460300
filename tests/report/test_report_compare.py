"""Several runs in one table and one picture."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from equipoise.report.compare import compare, print_table, write_comparison
from equipoise.report.metrics import BY_NAME


@pytest.fixture
def runs(make_run, lines) -> list[Path]:
    return [
        make_run(
            2,
            name=folder,
            summary={"method": method, "status": "finished"},
            evaluation=lines["evaluation"](2, exploitability=lambda r, g=gap: g if r else 0.4),
        )
        for folder, method, gap in (
            ("a", "dpo", 0.3),
            ("b", "[red]<b>spac</b> $x$", 0.05),
            ("c", "inpo", 0.02),
        )
    ]


def test_rows_are_the_reference_and_the_last_rounds(runs) -> None:
    rows = compare(runs)
    assert [row.name for row in rows] == ["reference", "dpo", "[red]<b>spac</b> $x$", "inpo"]
    assert [row.exploitability for row in rows] == [0.4, 0.3, 0.05, 0.02]
    assert [row.rounds for row in rows] == [0, 2, 2, 2]
    assert rows[0].seconds is None
    assert rows[1].seconds == pytest.approx(2 * 164.9)
    assert rows[1].win_rate.low < rows[1].win_rate.value < rows[1].win_rate.high


def test_the_table_fits_a_terminal_and_prints_names_as_they_are(runs) -> None:
    out = io.StringIO()
    print_table(compare(runs), Console(file=out, width=100))
    text = out.getvalue()
    assert "[red]<b>spac</b> $x$" in text
    assert BY_NAME["exploitability"].show(0.02) in text
    narrow = io.StringIO()
    print_table(compare([runs[0], runs[2]]), Console(file=narrow, width=80))
    assert "…" not in narrow.getvalue()
    assert "5 min 30 s" in narrow.getvalue()


def test_page_and_picture(runs, tmp_path: Path) -> None:
    page = write_comparison(runs, tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;spac&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 1
    assert write_comparison(runs, tmp_path / "comparison.png").read_bytes()[:4] == b"\x89PNG"


def test_runs_of_one_method_are_told_apart_by_folder(make_run) -> None:
    rows = compare([make_run(1, name="seed0"), make_run(1, name="seed1")])
    assert [row.name for row in rows] == ["reference", "spac (seed0)", "spac (seed1)"]


def test_runs_without_figures_make_a_page_but_no_picture(make_run, tmp_path: Path) -> None:
    folder = make_run(1, evaluation=[{"round": 0}, {"round": 1}])
    assert (
        "img"
        not in write_comparison([folder], tmp_path / "c.html")
        .read_text(encoding="utf-8")
        .split("</style>")[1]
    )
    with pytest.raises(ValueError, match="to draw"):
        write_comparison([folder], tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


def test_refuses_what_cannot_be_compared(make_run, lines, tmp_path: Path) -> None:
    first = make_run(1, name="one")
    other = make_run(1, name="two", evaluation=lines["evaluation"](1, exploitability=lambda r: 0.9))
    with pytest.raises(ValueError, match="different references"):
        compare([first, other])
    with pytest.raises(ValueError, match="at least one"):
        compare([])
    with pytest.raises(ValueError, match=r"\.html or \.png"):
        write_comparison([first], tmp_path / "c.pdf")
