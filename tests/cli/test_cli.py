"""The command line: exact schemas for machines, one message for people."""

from __future__ import annotations

import json
import re

import pytest
import typer

from equipoise.cli.app import app, main, spread
from equipoise.cli.looked_for import INSTEAD
from equipoise.methods.index import METHODS


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
    assert found.keys() == {"game", "tau", "names", "nash", "methods", "errors"}
    assert (found["game"], found["tau"], found["errors"]) == ("brps", 0.1, {})
    assert found["methods"].keys() == {"inpo", "dpo"}
    for trace in found["methods"].values():
        assert trace.keys() == {
            "tau",
            "round",
            "gap0",
            "gap_tau",
            "kl_to_nash",
            "policy",
            "average_policy",
            "trajectory",
            "by_prompt",
        }
        assert trace["round"] == [0, 1, 2, 3]
        assert all(len(trace[key]) == 4 for key in ("gap0", "gap_tau", "kl_to_nash"))
        assert sum(trace["policy"][0]) == pytest.approx(1)
        assert trace["by_prompt"].keys() == {"gap0", "gap_tau", "kl_to_nash"}
        assert trace["by_prompt"]["gap0"] == pytest.approx([trace["gap0"][-1]])


def play(capsys, game, *arguments):
    code, out, err = run(capsys, "play", "--game", game, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize(
    ("methods", "settings", "tau"),
    [
        (["egpo", "onpo"], [], 0.1),  # egpo's own beta on exact games
        (["onpo", "egpo"], ["beta=0.02"], 0.02),  # the first that has a KL weight, as set
        (["egpo", "inpo"], ["beta=0.02", "tau=0.3"], 0.3),
        (["inpo", "egpo"], ["beta=0.02"], 0.02),  # the only one that is set
        (["inpo", "dpo"], ["beta=0.02"], 0.1),  # of dpo beta is no KL weight of a game
        (["onpo", "sppo"], [], None),
    ],
)
def test_the_reported_kl_weight(capsys, methods, settings, tau):
    found = play(
        capsys, "brps", "--method", *methods, "--rounds", "1", *(["--set", *settings] if settings else [])
    )
    assert found["tau"] == (None if tau is None else pytest.approx(tau))
    assert (found["methods"][methods[0]]["gap_tau"][0] is None) == (tau is None)


@pytest.mark.parametrize("name", ["tau", "beta"])
@pytest.mark.parametrize("methods", [["egpo", "inpo"], ["inpo", "egpo"]])
def test_a_kl_weight_that_is_set_is_that_of_every_method_whatever_they_call_it(capsys, name, methods):
    found = play(capsys, "brps", "--method", *methods, "--rounds", "200", "--set", f"{name}=0.2")
    assert found["tau"] == 0.2
    assert all(abs(trace["gap_tau"][-1]) < 1e-8 for trace in found["methods"].values())


def test_two_kl_weights_that_are_set_stay_two(capsys):
    found = play(
        capsys, "brps", "--method", "egpo", "inpo", "--rounds", "200", "--set", "tau=0.2", "beta=0.3"
    )
    assert abs(found["methods"]["inpo"]["gap_tau"][-1]) < 1e-8
    assert found["methods"]["egpo"]["gap_tau"][-1] > 1e-4  # it plays another game than the reported one
    assert [found["methods"][name]["tau"] for name in ("egpo", "inpo")] == [0.3, 0.2]
    _, out, _ = run(
        capsys, "play", "--game", "brps", "--method", "egpo", "inpo", "--set", "tau=0.2", "beta=0.3"
    )
    assert "egpo plays at another KL weight, 0.3" in out and "inpo plays" not in out


def test_a_file_with_several_methods(capsys, tmp_path):
    payoff = [[0, 0.8, -0.4], [-0.8, 0, 0.6], [0.4, -0.6, 0]]
    (tmp_path / "g.json").write_text(json.dumps({"payoff": payoff, "names": ["a", "b", "c"]}))
    settings = ["eta=0.8", "beta=0.01"]
    found = play(
        capsys,
        str(tmp_path / "g.json"),
        *("--method", "egpo", "omd", "nash_md", "--rounds", "150", "--set", *settings),
    )
    assert found["tau"] == 0.01 and found["methods"].keys() == {"egpo", "omd", "nash_md"}
    ends = {name: trace["gap_tau"][-1] for name, trace in found["methods"].items()}
    assert ends["egpo"] < 0.1 * min(ends["omd"], ends["nash_md"])


def test_a_batch_is_played_as_its_single_games(capsys):
    batch = play(capsys, "random:4:5x3", "--method", "inpo", "--rounds", "4")["methods"]["inpo"]
    alone = [
        play(capsys, f"random:4:{seed}", "--method", "inpo", "--rounds", "4")["methods"]["inpo"]
        for seed in (5, 6, 7)
    ]
    for key in ("gap0", "gap_tau", "kl_to_nash"):
        ends = [trace[key][-1] for trace in alone]
        assert batch["by_prompt"][key] == pytest.approx(ends, abs=1e-12)
        assert batch[key][-1] == pytest.approx(sum(ends) / 3, abs=1e-12)


def test_a_method_that_cannot_be_played_does_not_stop_the_others(capsys):
    found = play(capsys, "rps", "--method", "gpo", "inpo", "ipo_mean", "--rounds", "2")
    assert found["methods"].keys() == {"inpo"}
    assert "certain preference" in found["errors"]["gpo"] and "lengths" in found["errors"]["ipo_mean"]
    code, out, _ = run(capsys, "play", "--game", "rps", "--method", "gpo", "inpo", "--rounds", "2")
    assert code == 0 and "gpo was not played: logit(P) is infinite" in out


@pytest.mark.slow
def test_all_methods_are_played_or_said_not_to_be(capsys):
    found = play(capsys, "rps", "--method", "all", "--rounds", "1")
    assert sorted([*found["methods"], *found["errors"]]) == sorted(METHODS)
    # what a finite game does not have, or a loss that ends in a kink: one clear reason each
    clear = (
        "lengths",
        "infinite",
        "no smooth minimum",
        "a finite game does not offer",
        "fixed point",
    )
    for name, said in found["errors"].items():
        assert any(reason in said for reason in clear), f"{name}: {said}"
    assert {"dpo", "rdpo", "f_dpo_js", "rpo", "nca_pair"} <= found["methods"].keys()


def test_many_games_are_printed_as_quantiles(capsys):
    code, out, _ = run(capsys, "play", "--game", "random:3:0x20", "--method", "inpo", "--rounds", "2")
    assert code == 0 and "random:3:0x20 (tau 0.1, 20 prompts)" in out
    assert "the last round over 20 prompts" in out and "median" in out and "average" not in out
    code, out, _ = run(capsys, "play", "--game", "brps", "--method", "inpo", "--rounds", "2")
    assert "average" in out and "Nash" in out and "median" not in out


def test_of_many_responses_the_likeliest_are_printed_by_name(capsys, tmp_path):
    wins = [[0.5 if i == j else float(i < j) for j in range(15)] for i in range(15)]
    names = [f"[r{i}]:100:" for i in range(15)]
    (tmp_path / "g.json").write_text(json.dumps({"preference": wins, "names": names}))
    code, out, _ = run(
        capsys, "play", "--game", str(tmp_path / "g.json"), "--method", "inpo", "--rounds", "9"
    )
    assert code == 0
    shown = ", ".join(rf"\[r{i}\]:100: 0\.\d{{4}}" for i in range(6))  # the order of who beats whom
    assert re.search(rf"Nash {shown}, \.\.\. policy {shown}, \.\.\. ", " ".join(out.split()))


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
    "need",
    "reference_free",
    "formula",
    "sources",
    "bounded",
    "limits",
    "deviations",
    "tests",
    "claims",
}


def test_methods_are_grouped_by_where_they_go(capsys):
    code, out, _ = run(capsys, "methods")
    assert code == 0
    assert out.startswith("Start here")
    listed = out[out.index("Recorded pairs") :]
    places = [
        listed.index(word)
        for word in ("Recorded pairs", "dpo ", "regularised Nash", "inpo ", "plain Nash", "onpo ")
    ]
    assert places == sorted(places)
    assert all(f"\n{name} " in listed for name in METHODS)


def test_methods_schema(capsys):
    code, out, _ = run(capsys, "methods", "--json")
    listed = json.loads(out)
    assert code == 0
    assert {"spac", "inpo", "dpo", "ipo"} <= {method["name"] for method in listed}
    assert all(method.keys() >= METHOD_KEYS for method in listed) and len(listed) == len(METHODS) >= 40
    code, out, _ = run(capsys, "methods", "inpo", "--json")
    assert json.loads(out)["name"] == "inpo"


def test_methods_are_filtered_and_an_unknown_one_gives_the_nearest(capsys):
    _, out, _ = run(capsys, "methods", "--need", "online", "--reference-free", "--json")
    assert {method["name"] for method in json.loads(out)} >= {"zpg", "zbcpg"}
    assert all(m["need"] == "online" and m["reference_free"] for m in json.loads(out))
    code, _, err = run(capsys, "methods", "--need", "pear")
    assert code == 2 and "known: pairs, unpaired, lists, demonstrations, scores, online" in err
    _, former, _ = run(capsys, "methods", "--need", "unary", "--json")
    _, out, _ = run(capsys, "methods", "--need", "unpaired", "--json")
    assert json.loads(former) == json.loads(out) and "kto" in out
    code, _, err = run(capsys, "methods", "inpoo")
    assert code == 2 and "did you mean 'inpo'" in err


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
        "statistics",
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
        (["play", "--game", "rps", "--method", "gpo"], "certain preference"),
        (["play", "--game", "rps", "--method", "ipo_mean", "gpo"], "no lengths"),
        (["play", "--game", "rps", "--method", "inpo", "--set", "b=1"], "none of inpo has a parameter 'b'"),
        (
            [
                "play",
                "--game",
                "random:5",
                "--method",
                "spac",
                "--rounds",
                "9",
                "--set",
                "w_pref=1",
                "clip=.inf",
            ],
            r"no minimiser: a response that won .* such as clip=10\).* raise lambda \(w_pref\)",
        ),
        (["methods", "nothing"], "no method 'nothing'"),
        (["report", "/no/such/folder"], "/no/such/folder"),
        (["data", "check", "/no/such/file.jsonl"], "/no/such/file.jsonl"),
        (["data", "check", "x.jsonl", "--set", "fromat=auto"], "did you mean 'data.format'"),
        (["data", "check", "x.jsonl", "--set", "held_out=0.5"], "do not apply to data check: held_out"),
    ],
)
def test_errors_are_one_message_with_code_2(capsys, arguments, says):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert re.search(says, err), err
    assert "Traceback" not in err + out


def test_traceback_on_request(capsys):
    code, _, err = run(capsys, "--traceback", "align", "inpoo")
    assert code == 2 and "Traceback" in err and "ConfigError: no method 'inpoo'" in err


def test_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0 and re.fullmatch(r"equipoise \d+\.\d+\.\d+\n", out)


def test_a_configuration_file_alone_says_its_method(capsys, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("method: spacc\n")
    code, _, err = run(capsys, "align", "--config", str(file))
    assert code == 2 and "no method 'spacc'; did you mean 'spac'" in err
    file.write_text("train: {lr: 1e-4}\n")
    code, _, err = run(capsys, "align", "--config", str(file))
    assert code == 2 and "which method?" in err


@pytest.mark.parametrize(
    ("given", "spread_out"),
    [
        (["--set", "a=1", "b=2", "--json"], ["--set", "a=1", "--set", "b=2", "--json"]),
        (["--method", "x", "y", "--rounds", "3"], ["--method", "x", "--method", "y", "--rounds", "3"]),
        (["--set", "a=1", "file", "--set", "b=2"], ["--set", "a=1", "file", "--set", "b=2"]),
        (["x", "--set=a=1"], ["x", "--set=a=1"]),
        (["x", "--sweep"], ["x", "--sweep"]),
        (["--sweep", "--set", "a=1"], ["--sweep", "--set", "a=1"]),
        (["--set", "a", "x"], ["--set", "a", "x"]),
    ],
)
def test_spread(given, spread_out):
    assert spread(given) == spread_out


@pytest.mark.parametrize("option", ["--set", "--sweep"])
def test_an_option_without_its_value_is_refused(capsys, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "align", "dpo", option)
    assert code == 2 and not out and f"Option '{option}' requires an argument" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTEAD)
def test_a_command_that_people_look_for_is_answered_with_one_that_exists(capsys, name):
    code, out, err = run(capsys, name, "RUN", "--any", "1")
    assert code == 2 and not out
    assert len(err.strip().splitlines()) == 1 and err.startswith(f"error: there is no command {name}: ")
    root = typer.main.get_command(app)
    for named in re.findall(r"`equipoise ([a-z]+)(?: ([a-z]+))?", err):
        command = root.commands[named[0]]
        assert not hasattr(command, "commands") or named[1] in command.commands
    assert name not in root.commands


def test_other_unknown_commands_are_the_option_parsers_business(capsys):
    code, _, err = run(capsys, "no_such_command")
    assert code == 2 and "no_such_command" in err
