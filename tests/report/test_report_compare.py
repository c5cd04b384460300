"""Several runs in one table and one picture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from equipoise.cli.app import main
from equipoise.report.run.compare import compare, print_table, write_comparison
from equipoise.report.run.metrics import BY_NAME


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
    print_table(compare(runs), Console(file=out, width=130))
    text = out.getvalue()
    assert "[red]<b>spac</b> $x$" in text
    assert BY_NAME["exploitability"].show(0.02) in text
    narrow = io.StringIO()
    print_table(compare([runs[0], runs[2]]), Console(file=narrow, width=110))
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


# What may not be compared


def with_inputs(folder: Path, **kinds: dict[str, str]) -> Path:
    (folder / "inputs.json").write_text(json.dumps({"inputs": kinds}))
    return folder


SAME = {"model": {"w": "1"}, "data": {"d.jsonl": "2"}, "oracle": {"rule.py": "3"}}


@pytest.mark.parametrize("kind", SAME)
def test_runs_of_other_inputs_are_refused_unless_told_and_then_marked(make_run, tmp_path, kind) -> None:
    first = with_inputs(make_run(1, name="one"), **SAME)
    other = with_inputs(make_run(1, name="two"), **SAME | {kind: {"elsewhere": "9"}})
    alike = with_inputs(make_run(1, name="three"), **SAME)
    assert len(compare([first, alike])) == 3
    with pytest.raises(ValueError, match=rf"(?s)one and .*two .*--allow different_{kind}"):
        compare([first, other])
    name = f"different_{kind}"
    assert len(compare([first, other], [name])) == 3
    page = write_comparison([first, other], tmp_path / "c.html", [name]).read_text(encoding="utf-8")
    assert "These runs differ in what their figures depend on" in page
    assert "These runs differ" not in write_comparison([first, alike], tmp_path / "d.html").read_text()


def test_the_name_of_a_file_is_not_its_content(make_run) -> None:
    first = with_inputs(make_run(1, name="one"), data={"here.jsonl": "2"})
    assert len(compare([first, with_inputs(make_run(1, name="two"), data={"there.jsonl": "2"})])) == 3


def test_other_evaluation_prompts_are_refused(make_run) -> None:
    runs = [make_run(1, name=name) for name in ("one", "two")]
    for run in runs:
        line = {"file": "evaluation/prompts.parquet", "sha256": run.name}
        (run / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=r"(?s)evaluated on different prompts.*--allow different_evaluation"):
        compare(runs)
    assert len(compare(runs, ["different_evaluation"])) == 3


def test_an_unknown_name_is_refused(make_run) -> None:
    with pytest.raises(ValueError, match="nothing is called 'different_seed' here; known: different_model"):
        compare([make_run(1)], ["different_seed"])


def test_columns_that_nothing_fills_are_left_out_and_settings_that_differ_are_shown(
    make_run, tmp_path
) -> None:
    rows = [{"round": r, "win_rate": {"value": 0.5 + r / 10, "low": None, "high": None}} for r in range(2)]
    runs = [make_run(1, name=name, evaluation=rows) for name in ("one", "two")]
    for run, rate in zip(runs, (1e-4, 1e-5), strict=True):
        (run / "config.yaml").write_text(f"method: dpo\ntrain:\n  lr: {rate}\n  batch: 8\n")
    out = io.StringIO()
    print_table(compare(runs), Console(file=out, width=100))
    assert "exploitability" not in out.getvalue() and "win rate" in out.getvalue()
    page = write_comparison(runs, tmp_path / "c.html").read_text(encoding="utf-8")
    assert (
        "train.lr" in page and "train.batch" not in page and "exploitability" not in page.split("<tbody>")[0]
    )


def test_the_command(make_run, tmp_path, capsys) -> None:
    runs = [make_run(1, name=name) for name in ("one", "two")]
    with pytest.raises(SystemExit) as end:
        main(["compare", *map(str, runs), "--out", str(tmp_path / "c.html")])
    assert end.value.code == 0 and (tmp_path / "c.html").exists()
    assert "comparison" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["compare", str(runs[0]), str(tmp_path / "nothing")])
    assert end.value.code == 2 and "is not a run folder" in capsys.readouterr().err
