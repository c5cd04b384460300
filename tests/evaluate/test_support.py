"""Whether a policy left the reference's support: each sign by hand, and a run that falls back on its last sound round."""

from __future__ import annotations

import json

import pytest

import equipoise as eq
from equipoise.evaluate.support import FINISHED, OUTSIDE, SURPRISAL, support

START = {"round": 0, "outside": 0.01, "surprisal": 1.5, "finished": 0.8}


@pytest.mark.parametrize(
    ("changed", "measured", "says"),
    [
        ({}, 0.0, "could have written"),
        ({"outside": 0.01 + OUTSIDE / 2}, 0.5, "outside the game"),
        ({"outside": 0.01 + 3 * OUTSIDE}, 3.0, "16.0% of its probability is on texts outside the game"),
        ({"surprisal": 1.5 + 2 * SURPRISAL}, 2.0, "expects its responses 4.0 nats a token less"),
        ({"surprisal": 0.5, "outside": 0.0, "finished": 1.0}, 0.0, "could have written"),
        ({"finished": 0.8 * FINISHED}, 1.0, "40% of its responses end by themselves, where 80% did"),
        ({"finished": 0.0}, 2.0, "0% of its responses end"),
        ({"outside": None, "surprisal": None, "finished": None}, 0.0, "could have written"),
    ],
)
def test_each_sign_of_a_policy_that_left_the_support(changed, measured, says):
    found = support(START, START | {"round": 3} | changed)
    assert found.measured == pytest.approx(measured) and says in found.sentence
    assert found.passed == (found.measured <= 1) and found.sentence.startswith("round 3: ")


def test_a_reference_that_never_ends_or_is_not_enumerable_asks_nothing_of_the_policy():
    line = {"round": 1, "outside": None, "surprisal": 1.0, "finished": 0.0}
    assert support(line | {"round": 0}, line).passed
    assert support({"round": 0}, {"round": 1}).passed  # of an older run folder


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
    assert (
        run.checkpoint.name == "initial"
        and run.summary["exploitability"]["final"] == lines[0]["exploitability"]
    )
    assert "--allow support" in capsys.readouterr().err
    page = run.report.read_text()
    assert "left the reference" in page and "delivers round 0" in page
    again = play()  # the same command ends at the same place
    assert (
        again.summary["delivered"] == 0
        and len((run.folder / "evaluation.jsonl").read_text().splitlines()) == 2
    )
    on = play(allow=["support"])
    assert on.summary["delivered"] == 3 and "left_support" not in on.summary
    assert [
        json.loads(line)["round"] for line in (run.folder / "evaluation.jsonl").read_text().splitlines()
    ] == [0, 1, 2, 3]
