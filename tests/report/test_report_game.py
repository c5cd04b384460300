"""`equipoise game`: the object, the tables, the picture and the command."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from equipoise.cli.app import main
from equipoise.games import zoo
from equipoise.report.games.analysis import game_report
from equipoise.report.games.picture import game_picture, write_game_picture
from equipoise.report.games.text import plain, print_game

ROOT = Path(__file__).resolve().parents[2]
GAME_KEYS = {
    "title", "names", "order", "preference", "reference", "triples", "decided", "cycles", "condorcet", "curl",
    "planes", "models", "ridge", "bradley_terry_finite", "gap", "unique", "spread", "responses", "regularised",
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Three prompts on which a, b, c run in a circle, one that compares only a and b; hostile names."""
    path = tmp_path_factory.mktemp("game") / "v.npz"
    prob = np.repeat(zoo.cyclic(3, 1.0).preference.numpy(), 4, axis=0)
    prob[3] = [[0.5, 0.0, np.nan], [1.0, 0.5, np.nan], [np.nan, np.nan, 0.5]]
    np.savez(path, prob=prob, names=["$a", "[b]", "c\x1b"], prompt_names=list("pqrs"))
    return str(path)


@pytest.fixture(scope="module")
def seasons(tmp_path_factory):
    path = tmp_path_factory.mktemp("game") / "s.npz"
    payoff = 2 * np.repeat(zoo.brps().preference.numpy(), 2, axis=0) - 1
    payoff[1] = 0.0  # nobody beats anybody
    np.savez(path, payoff=payoff, teams=[["a", "b", "c"], ["a", "b", "d"]], seasons=["one", "two"])
    return str(path)


def printed(report) -> str:
    out = io.StringIO()
    print_game(report, Console(file=out, width=100))
    return out.getvalue()


def test_a_game_of_the_zoo_in_full():
    report = game_report("brps")
    assert report.keys() == {
        "source", "part", "prompts", "comparisons", "missing", "verdicts", "games", "per_prompt", "bootstrap",
    }  # fmt: skip
    (game,) = report["games"]
    assert game.keys() == GAME_KEYS
    assert game["responses"]["average"] == pytest.approx([3 / 9, 2 / 9, 4 / 9]) and game["order"] == [2, 0, 1]
    assert [model["planes"] for model in game["models"]] == [0, 1]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    text = printed(report)
    assert "3-cycles           1 of 1 triples without a tie (100.0%)" in text
    assert "Condorcet winner   none" in text and "one policy" in text
    assert "Bradley-Terry 0.3 0.3 50.0%" in " ".join(text.replace("│", " ").split())


def test_verdicts_say_what_is_missing(verdicts):
    report = game_report(verdicts, resamples=40)
    assert (report["missing"], report["comparisons"], report["verdicts"]) == (2, 12, 10.0)
    assert report["per_prompt"]["complete"] == 3 and report["per_prompt"]["without_condorcet"] == 4
    assert report["per_prompt"]["with_cycle"] == report["per_prompt"]["cycles"] == 3
    assert [each["cycles"] for each in report["per_prompt"]["each"]] == [1, 1, 1, 0]
    # a beats b at three prompts of four
    assert report["games"][0]["preference"][0] == [0.5, 0.75, 0.0]
    spread = report["bootstrap"]
    assert spread["resamples"] == 40 and spread["left_out"] < 5
    assert sum(spread["condorcet"]) + spread["with_cycle"] <= 1 + 1e-12
    text = printed(report)
    assert "2 of 12 comparisons were never made" in text and "only 3 have every" in " ".join(text.split())
    assert "bootstrap over prompts: 40 resamples (seed 0)" in text
    assert "$a" in text and "[b]" in text and "\x1b" not in text


def test_games_that_cannot_be_pooled_stand_in_lines(seasons):
    report = game_report(seasons)
    assert [game["title"] for game in report["games"]] == ["one", "two"]
    assert report["games"][1]["models"][0]["accuracy"] is None
    text = printed(report)
    assert "--part NAME" in text and "two" in text
    one = game_report(seasons, "one")
    assert len(one["games"]) == 1 and one["part"] == "one" and one["per_prompt"] is None
    assert (
        printed(game_report(seasons, "two")).count("│ - .. 1.000 │") == 3
    )  # many policies: the range is shown
    for refuse in (lambda: game_report(seasons, resamples=10), lambda: game_picture(report)):
        with pytest.raises(ValueError, match="--part"):
            refuse()


def test_the_picture_shows_the_order_the_weights_and_the_strengths():
    report = game_report("brps")
    heat, nash, strength = game_picture(report).axes
    order, table = report["games"][0]["order"], np.asarray(report["games"][0]["preference"])
    assert np.allclose(heat.images[0].get_array(), table[np.ix_(order, order)])
    assert [tick.get_text() for tick in heat.get_yticklabels()] == ["c", "a", "b"]
    assert [bar.get_width() for bar in nash.patches] == pytest.approx([4 / 9, 3 / 9, 2 / 9])
    (dots,) = strength.lines
    expected = np.asarray(report["games"][0]["responses"]["strength"])[order]
    assert np.allclose(dots.get_xdata(), expected) and dots.get_ydata().tolist() == [0, 1, 2]
    assert {text.get_text() for text in heat.texts} == {"70", "30", "90", "10", "80", "20"}


def test_levels_stand_apart_in_the_picture(tmp_path):
    path = tmp_path / "g.json"
    path.write_text(json.dumps({"preference": [[0.5, 1, 1], [0, 0.5, 0.8], [0, 0.2, 0.5]]}))
    strength = game_picture(game_report(str(path))).axes[2]
    border, dots = strength.lines
    x = dots.get_xdata()
    assert x[0] > border.get_xdata()[0] > x[1] > x[2] and "∞" in strength.get_xlabel()


def test_hostile_names_are_drawn_and_the_bytes_repeat(verdicts, tmp_path):
    report = game_report(verdicts, resamples=20)
    for name in ("one.png", "two.png"):
        write_game_picture(report, tmp_path / name)
    assert imread(tmp_path / "one.png").shape[0] > 100
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(("file", "resamples"), [("replies.json", 0), ("ratings.json", 300)])
def test_the_page_shows_what_the_command_prints(file, resamples, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "games.md").read_text(encoding="utf-8")
    section = page[page.index(f"`{file}`") :]
    monkeypatch.chdir(tmp_path)
    Path(file).write_text(section.split("```json\n")[1].split("```")[0], encoding="utf-8")
    shown = section.split("```\n$ equipoise game ")[1].split("```")[0].splitlines()[1:]
    out = io.StringIO()
    print_game(game_report(file, resamples=resamples), Console(file=out, width=80))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    for line in shown:
        assert line in lines or line == "..." or line.startswith("picture"), line
    assert len(shown) > 15


def test_small_probabilities_are_not_zero():
    assert [plain(p) for p in (0.0, 1e-7, 2e-5, 0.25)] == ["-", "-", "2e-05", "0.250"]


def test_the_command(capsys, tmp_path, verdicts):
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["game", *arguments])
        out = capsys.readouterr()
        return end.value.code, out.out, out.err

    code, out, _ = run("rps", "--json")
    assert code == 0 and json.loads(out)["games"][0]["names"] == ["rock", "scissors", "paper"]
    code, out, _ = run(verdicts, "--bootstrap", "10", "--seed", "3", "--plot", str(tmp_path / "g.png"))
    assert code == 0 and "seed 3" in out and (tmp_path / "g.png").stat().st_size > 1000
    code, _, err = run(verdicts, "--part", "z")
    assert code == 2 and "no part 'z'" in err
    code, _, err = run("rps", "--bootstrap", "10")
    assert code == 2 and "needs at least two prompts" in err
