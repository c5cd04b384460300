"""Whether a policy left the reference's support: each sign by hand, and a run that falls back on a sound round."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import equipoise as eq
from equipoise.cli.app import main
from equipoise.evaluate.located import locate
from equipoise.evaluate.support import FINISHED, LENGTH, OUTSIDE, SURPRISAL, delivered, support
from equipoise.play.seeds import Seeds
from equipoise.play.state import START, State
from equipoise.policy.protocol import Measured
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder.gates import GateClosed, Gates
from equipoise.worlds.text.folder.run_folder import RunFolder

REFERENCE = {"round": 0, "outside": 0.01, "surprisal": 1.5, "finished": 0.8, "length": {"value": 20.0}}


def lengths(policy, recorded=None):
    return {"length": {"value": policy}, "recorded_length": recorded}


@pytest.mark.parametrize(
    ("changed", "measured", "says"),
    [
        ({}, 0.0, "could have written"),
        ({"outside": 0.01 + OUTSIDE / 2}, 0.5, "outside the game"),
        (
            {"outside": 0.01 + 3 * OUTSIDE},
            3.0,
            "16.0% of the policy's probability is on texts outside the game",
        ),
        ({"surprisal": 1.5 + 2 * SURPRISAL}, 2.0, "5.5 nats per token of surprisal, and 1.5 to its own"),
        ({"surprisal": 9.0, "recorded_surprisal": 8.0}, 0.5, "and 8.0 to its own or the recorded ones"),
        ({"surprisal": 0.5, "outside": 0.0, "finished": 1.0}, 0.0, "could have written"),
        ({"finished": 0.8 * FINISHED}, 1.0, "40% of the policy's responses end by themselves, 80% before"),
        ({"finished": 0.0}, 2.0, "0% of the policy's responses end"),
        (lengths(20 * LENGTH**2), 2.0, "320 tokens, where 20 were usual"),
        (lengths(20 / LENGTH), 1.0, "5 tokens, where 20 were usual"),
        (lengths(5, recorded=5), 0.0, "could have written"),
        (lengths(40, recorded=80), 0.0, "could have written"),
        (dict.fromkeys(("outside", "surprisal", "finished", "length")), 0.0, "could have written"),
    ],
)
def test_each_sign_of_a_policy_that_left_the_support(changed, measured, says):
    found = support(REFERENCE, REFERENCE | {"round": 3} | changed)
    assert found.measured == pytest.approx(measured) and says in found.sentence
    assert found.passed == (found.measured <= 1) and found.sentence.startswith("round 3: ")


def test_a_reference_that_seldom_ends_or_is_not_enumerable_asks_nothing_of_the_policy():
    line = {"round": 1, "outside": None, "surprisal": 1.0, "finished": 0.0}
    assert support(line | {"round": 0}, line).passed
    assert support(REFERENCE | {"finished": 0.04}, REFERENCE | {"round": 1, "finished": 0.0}).passed
    assert support({"round": 0}, {"round": 1}).passed  # of an older run folder


def folder_of(tmp_path: Path, evaluated: list[int], settled: int, bad: list[int], allowed: list[int]) -> Path:
    """A run folder with finished rounds, some evaluated, whose gate refused some."""
    journal = Journal(tmp_path)
    for round in range(settled + 1):
        if round:
            journal.settled(round).parent.mkdir(parents=True)
            journal.settled(round).write_text("{}")
        journal.checkpoint(round).mkdir(parents=True)
    for round in evaluated:
        journal.append("evaluation.jsonl", {"round": round, "win_rate": {"value": 0.5 + round / 10}})
        found = Measured(name="support", measured=2.0, limit=1.0, passed=round not in bad, sentence="it left")
        try:
            Gates(folder=tmp_path, allowed=["support"] if round in allowed else []).judge(found, round=round)
        except GateClosed:
            assert round in bad
    (tmp_path / "config.yaml").write_text("data: {template: auto}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("evaluated", "settled", "bad", "allowed", "round", "best"),
    [
        ([0, 1, 2, 3], 3, [], [], 3, 3),
        ([0, 1, 2, 3], 3, [3], [], 2, 2),
        ([0, 3, 6], 6, [6], [], 3, 3),  # what was not evaluated is not known to be sound
        ([0, 1], 1, [1], [1], 1, 1),
        ([0, 1], 2, [], [], 2, 1),  # of a run that goes on
    ],
)
def test_what_a_folder_delivers_is_what_other_commands_take(
    tmp_path, evaluated, settled, bad, allowed, round, best
):
    folder = folder_of(tmp_path, evaluated, settled, bad, allowed)
    assert delivered(Journal(folder)) == round == locate(str(folder)).round
    assert locate(str(folder), "best").round == best
    assert locate(str(folder), str(settled)).round == settled  # asked for by its number it is there


def test_a_pruned_run_keeps_the_policy_on_which_it_would_fall_back(tmp_path):
    """Round 3 was evaluated; with one checkpoint kept it is still there when round 5 is settled, and 4 is not."""
    journal = Journal(tmp_path)
    for round in range(6):
        journal.checkpoint(round).mkdir(parents=True)
    for round in (0, 3):
        journal.append("evaluation.jsonl", {"round": round})
    state = State.begin(journal.checkpoint(0)).advance({START: journal.checkpoint(5)})
    RunFolder(journal=journal, seeds=Seeds(0), keep=1).settle(replace(state, round=6))
    assert {path.name for path in journal.checkpoints.iterdir()} == {"initial", "round-003", "round-005"}


@pytest.mark.slow
def test_a_run_that_leaves_the_support_delivers_the_last_round_that_did_not(tmp_path, capsys):
    """At a rate a hundred times too high the policy leaves the grammar in the first round."""
    settings = {"train.lr": 0.1, "train.epochs": 1, "play.rounds": 3, "evaluate.prompts": 8}

    def play(**more):
        return eq.align("dpo", out=tmp_path / "run", settings=settings, **more)

    run = play()
    lines = [json.loads(line) for line in (run.folder / "evaluation.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1]
    assert run.summary["delivered"] == 0 and run.summary["left_support"].startswith("round 1: ")
    assert run.checkpoint.name == "initial"
    assert run.summary["exploitability"]["final"] == lines[0]["exploitability"]
    said = capsys.readouterr().err
    assert "--allow support" in said and said.count("delivered is round 0") == 1
    page = run.report.read_text()
    assert "left the reference" in page and "delivers round 0" in page
    again = ["align", "dpo", "--out", str(run.folder)]  # the same command ends at the same place
    again += ["--set", "train.lr=0.1", "train.epochs=1", "play.rounds=3", "evaluate.prompts=8"]
    with pytest.raises(SystemExit) as ended:
        main(again)
    assert ended.value.code == 3
    assert len((run.folder / "evaluation.jsonl").read_text().splitlines()) == 2
    on = play(allow=["support"])
    assert on.summary["delivered"] == 3 and "left_support" not in on.summary
    lines = (run.folder / "evaluation.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1, 2, 3]
