"""The command line: exact schemas for machines, one message for people."""

from __future__ import annotations

import json

import pytest

from equipoise.cli import main, spread


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    out = capsys.readouterr()
    return end.value.code, out.out, out.err


def test_play_schema(capsys):
    code, out, _ = run(
        capsys,
        "play",
        "--game",
        "brps",
        "--method",
        "inpo",
        "dpo",
        "--rounds",
        "3",
        "--set",
        "eta=0.5",
        "tau=0.1",
        "--json",
    )
    assert code == 0
    found = json.loads(out)
    assert found.keys() == {"game", "tau", "names", "nash", "methods"}
    assert (found["game"], found["tau"]) == ("brps", 0.1)
    assert found["methods"].keys() == {"inpo", "dpo"}
    for trace in found["methods"].values():
        assert trace.keys() == {
            "round",
            "gap0",
            "gap_tau",
            "kl_to_nash",
            "policy",
            "average_policy",
            "trajectory",
        }
        assert trace["round"] == [0, 1, 2, 3]
        assert all(len(trace[key]) == 4 for key in ("gap0", "gap_tau", "kl_to_nash"))
        assert sum(trace["policy"][0]) == pytest.approx(1)


METHOD_KEYS = {
    "name",
    "title",
    "paper",
    "needs",
    "players",
    "oracle",
    "update",
    "defaults",
    "status",
    "confidence",
}


def test_methods_schema(capsys):
    code, out, _ = run(capsys, "methods", "--json")
    listed = json.loads(out)
    assert code == 0
    assert {"spac", "inpo", "dpo", "ipo"} <= {method["name"] for method in listed}
    assert all(method.keys() >= METHOD_KEYS for method in listed)
    code, out, _ = run(capsys, "methods", "inpo", "--json")
    assert json.loads(out)["name"] == "inpo"


def test_data_check_schema(capsys, tmp_path):
    row = {"prompt": "p", "chosen": "good", "rejected": "bad"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"prompt": "q"}) + "\n")
    code, out, _ = run(capsys, "data", "check", str(tmp_path / "d.jsonl"), "--json", "--set", "data.limit=1")
    assert code == 0
    found = json.loads(out)
    assert found.keys() == {
        "format",
        "kind",
        "space",
        "ledger",
        "unit",
        "lengths",
        "chosen_longer",
        "median_gap",
        "rows",
    }
    assert found["ledger"]["read"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["align", "inpoo"], "did you mean 'inpo'"),
        (["align", "dpo", "--set", "lrr=1"], "did you mean 'train.lr'"),
        (["align", "dpo", "--set", "lr"], "No such option|unexpected|name=value|--set"),
        (["play", "--game", "nowhere", "--method", "inpo"], "nowhere"),
        (["play", "--game", "rps", "--method", "inpo", "--exact", "--gradient"], "exclude each other"),
        (
            ["play", "--game", "rps", "--method", "inpo", "--set", "eta=abc"],
            "eta must be a number, got 'abc'",
        ),
        (["play", "--game", "rps", "--method", "dpo", "--set", "tau=abc"], "tau must be a number"),
        (["play", "--game", "rps", "--method", "inpo", "--set", "b=1"], "none of inpo has a parameter 'b'"),
        (
            ["play", "--game", "random:5", "--method", "spac", "--rounds", "9", "--set", "w_pref=1"],
            "critic has no minimiser",
        ),
        (["methods", "nothing"], "no method 'nothing'"),
        (["report", "/no/such/folder"], "/no/such/folder"),
        (["data", "check", "/no/such/file.jsonl"], "/no/such/file.jsonl"),
        (["data", "check", "x.jsonl", "--set", "fromat=auto"], "did you mean 'data.format'"),
        (["data", "check", "x.jsonl", "--set", "held_out=0.5"], "makes no use of held_out"),
    ],
)
def test_errors_are_one_message_with_code_2(capsys, arguments, says):
    import re

    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert re.search(says, err), err
    assert "Traceback" not in err + out


def test_traceback_on_request():
    with pytest.raises(ValueError, match="no method"):
        main(["--traceback", "align", "inpoo"])


@pytest.mark.parametrize(
    ("given", "spread_out"),
    [
        (["--set", "a=1", "b=2", "--json"], ["--set", "a=1", "--set", "b=2", "--json"]),
        (["--method", "x", "y", "--rounds", "3"], ["--method", "x", "--method", "y", "--rounds", "3"]),
        (["--set", "a=1", "file", "--set", "b=2"], ["--set", "a=1", "file", "--set", "b=2"]),
        (["x", "--set=a=1"], ["x", "--set=a=1"]),
    ],
)
def test_spread(given, spread_out):
    assert spread(given) == spread_out
