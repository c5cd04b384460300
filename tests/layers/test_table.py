"""The table of methods: trials are equal and committed, settings resolve, choices and refusals follow the protocol."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from equipoise.run.config import resolve

HERE = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def protocol(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("table_protocol")


@pytest.fixture
def program(protocol: Any) -> Any:
    return importlib.import_module("table")


def line(name: str, trial: int, gap: float, failed: str | None = None, **more: Any) -> dict[str, Any]:
    about = {"role": "tune", "name": name, "trial": trial, "failed": failed, "code": "a", "commit": "c"}
    figures = {"exploitability": gap, "win_rate": 0.6, "kl": 0.5, "outside": 0.0, "reference_outside": 0.0}
    return about | {"tune": figures, "judge_calls": 1024, "cpu_seconds": 30.0} | more


def test_every_method_has_the_same_number_of_committed_trials(protocol: Any) -> None:
    drawn = protocol.committed_trials()
    assert {len(each) for each in drawn.values()} == {protocol.TRIALS} and list(drawn) == list(
        protocol.CONTENDERS
    )
    for name, each in drawn.items():
        assert len({str(trial) for trial in each}) == protocol.TRIALS
        config = resolve(
            protocol.CONTENDERS[name].method, protocol.settings_of(name, "skewed", "weak", each[0])
        )
        assert config.judging.budget == protocol.BUDGET and config.play.checkpoint == "weak"
        knob, middle = protocol.CONTENDERS[name].knob
        assert all(middle / 5.01 <= trial[knob] <= middle * 5.01 for trial in each)
    rates = {tuple(trial["train.lr"] for trial in each) for each in drawn.values()}
    assert len(rates) == 1  # the same points for everyone


def test_tune_and_report_prompts_are_apart(protocol: Any) -> None:
    splits = protocol.splits()
    assert not set(splits["tune"]) & {*splits["combinations"], *splits["words"]}
    assert [len(split) for split in splits.values()] == [8, 12, 11]


def test_the_choice_is_the_best_sound_trial_and_waits_for_all(program: Any, protocol: Any) -> None:
    found = [line("inpo", i, 0.5 - i / 100) for i in range(protocol.TRIALS)]
    assert program.chosen(found[:-1], "inpo") is None
    assert program.chosen(found, "inpo")["trial"] == protocol.TRIALS - 1
    found[-1]["failed"] = "3 % of the mass left the grammar"
    assert program.chosen(found, "inpo")["trial"] == protocol.TRIALS - 2
    leak = line("inpo", 0, 0.1)
    leak["tune"]["outside"] = 0.021
    assert "2.1%" in program.leak_of(leak, "tune")
    leak["tune"]["reference_outside"] = 0.002
    assert program.leak_of(leak, "tune") is None


def test_a_page_refuses_results_of_other_code_and_says_what_is_missing(program: Any) -> None:
    page = importlib.import_module("table_page").page
    with pytest.raises(ValueError, match=r"no results of the code b; there are: a"):
        page("none", [line("inpo", 0, 0.3)], "b")
    told = page("none", [line("inpo", 0, 0.3), line("egpo", 0, 0.4, "left")], "a")
    assert "**partial**" in told and "ranks nothing" in told and "1 of 8" in told


def test_reported_runs_are_ranked_in_pairs(program: Any, protocol: Any) -> None:
    page = importlib.import_module("table_page").page
    report = []
    for i, (checkpoint, seed) in enumerate((c, s) for c in protocol.CHECKPOINTS for s in protocol.SEEDS):
        for name, gap in (("inpo", 0.1), ("egpo", 0.3), ("mpo", 0.3)):
            split = {"exploitability": gap + i / 1000, "win_rate": 0.6, "kl": 0.5, "outside": 0.01}
            curve = [
                {
                    "exact_kl": kl,
                    "exact_win_rate": 0.5 + kl / 4,
                    "flops": 1e9 * kl,
                    "exploitability": gap,
                    "judge_calls": 9,
                }
                for kl in (0.0, 0.6)
            ]
            failed = "left" if name == "mpo" and i == 0 else None
            about = {"role": "report", "name": name, "checkpoint": checkpoint, "seed": seed, "failed": failed}
            about |= {"combinations": split, "words": split, "curve": curve, "flops": 6e8, "length": 9.0}
            report.append(line(name, 0, gap) | about)
    rows = {
        cells[1]: cells
        for cells in (
            [cell.strip() for cell in row.split("|")] for row in page("none", report, "a").splitlines()
        )
        if len(cells) > 14
    }
    assert [rows[name][2] for name in ("inpo", "egpo", "mpo")] == ["1", "2", "2"]
    assert rows["inpo"][3].startswith("0.107 [") and rows["mpo"][9] == "1 of 15"
    assert rows["inpo"][12:15] == ["56.2% (15)", "62.5% (15)", "-"]  # at 0.25, 0.5 and 1 nats
