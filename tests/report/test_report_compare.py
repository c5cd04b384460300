"""Any runs side by side: what is of one evaluation in one table, what is not in words."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from markupsafe import escape
from rich.console import Console

from equipoise.cli.app import main
from equipoise.report.comparison.compare import HEADINGS, WORDS, compare
from equipoise.report.comparison.page import write_comparison
from equipoise.report.comparison.text import print_comparison
from equipoise.report.run.metrics import BY_NAME
from report_pages import Page, check_closed

NAME = "[red]<b>spac</b> $x$"


@pytest.fixture
def runs(make_run, lines) -> list[Path]:
    return [
        make_run(
            2,
            name=folder,
            summary={"method": method, "status": "finished"},
            evaluation=lines["evaluation"](2, exploitability=lambda r, g=gap: g if r else 0.4),
        )
        for folder, method, gap in (("a", "dpo", 0.3), ("b", NAME, 0.05), ("c", "inpo", 0.02))
    ]


def with_inputs(folder: Path, **kinds: dict[str, str]) -> Path:
    (folder / "inputs.json").write_text(json.dumps({"inputs": kinds}))
    return folder


def evaluated_on(folder: Path, **files: str) -> Path:
    """A folder whose manifest has these hashes of evaluation/NAME.parquet."""
    found = [{"file": f"evaluation/{name}.parquet", "sha256": value} for name, value in files.items()]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
    return folder


def printed(found, width: int = 100) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
    print_comparison(found, console)
    return out.getvalue()


def test_rows_are_the_reference_and_the_last_rounds(runs) -> None:
    (group,) = compare(runs).groups
    assert [row.name for row in group.rows] == ["reference", "dpo", NAME, "inpo"]
    assert [row.figures["exploitability"] for row in group.rows] == [0.4, 0.3, 0.05, 0.02]
    assert [row.rounds for row in group.rows] == [0, 2, 2, 2]
    assert group.rows[0].figures["seconds"] is None
    assert group.rows[1].figures["seconds"] == pytest.approx(2 * 164.9)


def test_the_table_fits_a_terminal_and_prints_names_as_they_are(runs) -> None:
    text = printed(compare(runs), 120)
    assert NAME in text
    assert BY_NAME["exploitability"].show(0.02) in text
    narrow = printed(compare([runs[0], runs[2]]), 80)
    assert "…" not in narrow.split("\n\n")[0]
    assert "5 min 30 s" in narrow


def test_page_and_picture(runs, tmp_path: Path) -> None:
    page = Page(write_comparison(runs, tmp_path / "comparison.html"))
    check_closed(page)
    assert NAME in page.text
    assert "<b>spac" not in page.source
    assert {"chart-win_rate-0", "chart-exploitability-0", "chart-accuracy-0", "chart-kl-0"} <= {
        value for _, name, value in page.attributes if name == "id"
    }
    assert write_comparison(runs, tmp_path / "comparison.png").read_bytes()[:4] == b"\x89PNG"


def test_runs_of_one_method_are_told_apart_by_folder_and_then_by_path(make_run, tmp_path) -> None:
    first, second = make_run(1, name="seed0"), make_run(1, name="seed1")
    assert compare([first, second]).names == ("spac (seed0)", "spac (seed1)")
    (tmp_path / "more").mkdir()
    other = (tmp_path / "more" / "seed0").resolve()
    second.rename(other)
    assert compare([first, other]).names == (f"spac ({first.resolve()})", f"spac ({other})")


def test_runs_without_figures_make_a_page_but_no_picture(make_run, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("verdicts", "held_out", "win_matrix"))
    folder = make_run(1, evaluation=[{"round": 0}, {"round": 1}], **nothing)
    page = Page(write_comparison([folder], tmp_path / "c.html"))
    assert "figure" not in page.tags and "script" not in page.tags
    with pytest.raises(ValueError, match="to draw"):
        write_comparison([folder], tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()
    with pytest.raises(ValueError, match=r"\.html or \.png"):
        write_comparison([folder], tmp_path / "c.pdf")
    with pytest.raises(ValueError, match="at least one"):
        compare([])


# Paired differences


def verdicts(wins: list[float], round: int = 1) -> list[dict]:
    return [
        {"round": round, "prompt_index": i, "sample": 0, "win": win, "length": 10, "reference_length": 10}
        for i, win in enumerate(wins)
    ]


def test_differences_are_paired_prompt_by_prompt(make_run) -> None:
    """Every prompt's win rate rises by 0.1 or 0.2: unpaired the spread of the prompts would hide it."""
    before = [0.05 * i for i in range(16)]
    after = [win + (0.1 if i % 2 else 0.2) for i, win in enumerate(before)]
    runs = [
        make_run(1, name=name, verdicts=verdicts(wins)) for name, wins in (("one", before), ("two", after))
    ]
    found = compare(runs)
    (group,) = found.groups
    moved = group.moved["spac (two)"]["win_rate"]
    assert moved.value == pytest.approx(0.15)
    assert moved.n == 16 and 0.1 < moved.low < 0.15 < moved.high < 0.2
    assert found.said[0].startswith(
        "spac (two) has the higher win rate against the reference than spac (one): +15.0 points, 95 % interval +12."
    )
    assert "paired over the same 16 prompts" in found.said[0]


def test_held_out_pairs_are_paired_too_and_a_difference_within_noise_is_none(make_run) -> None:
    def pairs(right) -> list[dict]:
        return [
            {
                "round": 1,
                "pair": n,
                "prompt": n,
                "chosen": 1.0 if right(n) else -1.0,
                "rejected": 0.0,
                "ranked": 1.0,
            }
            for n in range(30)
        ]

    runs = [
        make_run(1, name=name, held_out=pairs(right))
        for name, right in (("one", lambda n: n % 2), ("two", lambda n: n % 2 or n == 0))
    ]
    found = compare(runs)
    assert found.groups[0].moved["spac (two)"]["accuracy"].value == pytest.approx(1 / 30)
    assert any("are not told apart by their held-out accuracy: +3.3 points" in text for text in found.said)


def test_few_prompts_are_too_few_to_say_who_is_better(make_run) -> None:
    runs = [
        make_run(1, name=n, verdicts=verdicts([w] * 4), held_out=None)
        for n, w in (("one", 0.2), ("two", 0.9))
    ]
    assert compare(runs).said == (
        "4 prompts are too few to say whether spac (two) and spac (one) differ in their win rate against the "
        "reference.",
    )


# What cannot be compared

SAME = {"model": {"w": "1"}, "data": {"d.jsonl": "2"}, "oracle": {"rule.py": "3"}}


def test_other_models_share_no_figure_and_it_is_said(make_run, tmp_path) -> None:
    first = with_inputs(make_run(1, name="one"), **SAME)
    other = with_inputs(make_run(1, name="two"), **SAME | {"model": {"w": "9"}})
    same = with_inputs(make_run(1, name="three"), **SAME)
    found = compare([first, other, same])
    assert [[row.index for row in group.rows] for group in found.groups] == [[None, 0, 2], [None, 1]]
    (sentence,) = found.apart
    assert sentence == (
        "The runs start from different models: spac (one), spac (three) (contents 1); spac (two) (contents 9). Their "
        "exact figures, win rates, held-out figures and KL and lengths are of different evaluations and stand in "
        "separate tables."
    )
    page = Page(write_comparison([first, other, same], tmp_path / "c.html"))
    check_closed(page)
    assert "What cannot be compared" in page.text
    assert "chart-win_rate-1" in {value for _, name, value in page.attributes if name == "id"}
    assert "What cannot be compared" not in write_comparison([first, same], tmp_path / "d.html").read_text()


def test_another_oracle_parts_win_rates_and_not_held_out_pairs(make_run) -> None:
    first = with_inputs(make_run(1, name="one"), **SAME)
    other = with_inputs(make_run(1, name="two"), **SAME | {"oracle": {"rule.py": "9"}})
    groups = compare([first, other]).groups
    where = {figure: [row.index for row in group.rows][1:] for group in groups for figure in group.figures}
    assert where["accuracy"] == [0, 1] and where["kl"] == [0, 1]
    assert len([group for group in groups if "win_rate" in group.figures]) == 2
    assert all("win_rate" not in moved for group in groups for moved in group.moved.values())


def test_other_data_are_said_and_part_nothing(make_run) -> None:
    first = with_inputs(make_run(1, name="one"), **SAME)
    other = with_inputs(make_run(1, name="two"), **SAME | {"data": {"d.jsonl": "9"}})
    found = compare([first, other])
    assert len(found.groups) == 1
    assert (
        "read different data" in found.apart[0]
        and "may come from it as well as from the method" in found.apart[0]
    )


def test_the_name_of_a_file_is_not_its_content(make_run) -> None:
    first = with_inputs(make_run(1, name="one"), data={"here.jsonl": "2"})
    assert compare([first, with_inputs(make_run(1, name="two"), data={"there.jsonl": "2"})]).apart == ()


def test_other_prompts_and_other_pairs_part_what_rests_on_them(make_run) -> None:
    one = evaluated_on(make_run(1, name="one"), prompts="a", pairs="p")
    two = evaluated_on(make_run(1, name="two"), prompts="b", pairs="p")
    groups = compare([one, two]).groups
    shared = {figure for group in groups if len(group.rows) == 3 for figure in group.figures}
    assert "accuracy" in shared and not shared & {"win_rate", "kl", "length", "exploitability"}


def test_a_game_whose_reference_is_exploited_differently_is_another_game(make_run, lines) -> None:
    first = make_run(1, name="one")
    other = make_run(1, name="two", evaluation=lines["evaluation"](1, exploitability=lambda r: 0.9))
    assert all(len(group.rows) == 2 for group in compare([first, other]).groups)


def test_responses_of_all_runs_stand_side_by_side_with_the_verdict(runs, tmp_path) -> None:
    page = Page(write_comparison(runs, tmp_path / "c.html"))
    text = page.text[page.text.index("Samples") :]
    at = [text.index(word) for word in ("Prompt 1", "dpo", "ties against the reference's: 50.0 %", "inpo")]
    assert at == sorted(at)


def test_columns_that_nothing_fills_are_left_out_and_settings_that_differ_are_shown(
    make_run, tmp_path
) -> None:
    rows = [{"round": r, "win_rate": {"value": 0.5 + r / 10, "low": None, "high": None}} for r in range(2)]
    runs = [make_run(1, name=name, evaluation=rows) for name in ("one", "two")]
    for run, rate in zip(runs, (1e-4, 1e-5), strict=True):
        (run / "config.yaml").write_text(f"method: dpo\ntrain:\n  lr: {rate}\n  batch: 8\n")
    text = printed(compare(runs))
    assert "exploit" not in text and "win rate" in text
    assert "train.lr" in text and "0.0001" in text and "train.batch" not in text
    page = write_comparison(runs, tmp_path / "c.html").read_text(encoding="utf-8")
    assert "train.lr" in page and "train.batch" not in page


def test_the_command(make_run, tmp_path, capsys) -> None:
    runs = [make_run(1, name=name) for name in ("one", "two")]
    with pytest.raises(SystemExit) as end:
        main(["compare", *map(str, runs), "--out", str(tmp_path / "c.html")])
    assert end.value.code == 0 and (tmp_path / "c.html").exists()
    assert "comparison" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["compare", *map(str, runs), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert end.value.code == 0 and found.keys() == {
        "runs",
        "evaluations",
        "said",
        "not_comparable",
        "settings",
    }
    assert found["evaluations"][0]["rows"][1]["win_rate"]["n"] == 800
    with pytest.raises(SystemExit) as end:
        main(["compare", str(runs[0]), str(tmp_path / "nothing")])
    assert end.value.code == 2 and "is not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("count", [2, 5, 12])
def test_any_number_of_runs_with_long_names_fits_the_terminal(
    width: int, count: int, make_run, tmp_path: Path
) -> None:
    folders = []
    for number in range(count):
        folder = make_run(2, name=f"sweep-train.lr=1e-{number:02}-objective.beta=0.5-and-a-longer-name")
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        settings["data"] = {"path": f"/a/very/long/path/of/data/files/number-{number}/pairs.jsonl"}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        folders.append(folder)
    found = compare(folders)
    text = printed(found, width)
    assert max(map(len, text.splitlines())) <= width
    for number, name in enumerate(found.names, 1):
        assert f"{number}  {name}"[:width].split("(")[0] in text
    tables = text.split("settings that differ")[0].split("\n\n")[1:]
    values = {word for table in tables for word in table.split()}
    for figure in found.groups[0].filled():
        for row in found.groups[0].rows:
            assert set(row.parts(figure)[0].split()) <= values, "no figure is broken in two"
    said = text.split("settings that differ")[1].replace("\n", "").replace(" ", "")
    assert "data.path" in said and "number-0" in said.replace("│", "")


def test_every_column_is_explained_and_what_the_runs_are_stands_first(make_run, tmp_path):
    assert WORDS.keys() == HEADINGS.keys()
    runs = [make_run(name=name) for name in ("one", "two")]
    page = write_comparison(runs, tmp_path / "c.html", "Three <b>runs</b>.").read_text(encoding="utf-8")
    assert page.index("Three &lt;b&gt;runs&lt;/b&gt;.") < page.index("<h2>Figures</h2>")
    (group,) = compare(runs).groups
    for figure in group.filled(page=True):
        assert str(escape(WORDS[figure])) in page, figure
    plain = write_comparison(runs, tmp_path / "plain.html").read_text(encoding="utf-8")
    assert "<details><summary>What these figures mean" in plain
