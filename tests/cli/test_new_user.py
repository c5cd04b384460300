"""What a new user calls: init, plan, schema, sweep, runs, env; a configuration of another method; where to start."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from equipoise.cli.app import main
from equipoise.cli.env import environment
from equipoise.cli.init import Task, text
from equipoise.report.methods.stored import methods
from equipoise.report.methods.text import START, print_methods
from equipoise.report.run.listing import runs
from equipoise.run.config import ConfigError, of_another, resolve
from equipoise.run.schema import schema
from equipoise.run.session import align, configured
from equipoise.run.settings import RunConfig
from equipoise.run.sweep import combinations, folder_name, parse

TASKS = Task.__args__
RULE = "def score(prompt, response):\n    return float(len(response))\n"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    out = capsys.readouterr()
    return end.value.code, out.out, out.err


@pytest.mark.parametrize("task", TASKS)
def test_a_template_is_a_configuration_of_its_method(task, tmp_path):
    file = tmp_path / "align.yaml"
    file.write_text(text(task))
    settings = yaml.safe_load(text(task))
    made = configured(settings["method"], config=file)
    assert made.method == settings["method"] and made.data.path and made.model.path == "path/to/model"
    assert made.oracle == settings.get("oracle")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_template_with_a_model_and_data_reaches_the_plan(task, tmp_path, capsys, monkeypatch):
    from equipoise.playground.reference import model_path

    monkeypatch.chdir(tmp_path)
    assert run(capsys, "init", task)[0] == 0
    if task == "demonstrations":
        rows = [{"prompt": f"name {i}", "response": "a b"} for i in range(40)]
    else:
        rows = [{"prompt": f"name {i}", "chosen": "a b", "rejected": "b"} for i in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("rule.py").write_text(RULE)
    oracle = ["--oracle", "rule.py:score"] if task in ("judge", "reward") else []
    small = ["--set", "play.prompts=8", "max_new_tokens=4"] if oracle else []
    code, out, err = run(
        capsys,
        *(
            "plan",
            "--config",
            "align.yaml",
            "--model",
            str(model_path()),
            "--data",
            "rows.jsonl",
            *oracle,
            *small,
        ),
    )
    assert code == 0, err
    assert "steps" in out and not (tmp_path / "runs").exists()


def test_init_overwrites_nothing_and_names_the_next_command(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    code, out, _ = run(capsys, "init", "lora", "--out", str(file))
    assert (
        code == 0
        and f"equipoise align --config {file}" in out
        and f"plan --config {file}" in file.read_text()
    )
    code, _, err = run(capsys, "init", "--out", str(file))
    assert code == 2 and "exists" in err
    assert run(capsys, "init", "nonsense")[0] == 2


def test_the_schema_knows_every_setting_and_what_the_templates_use():
    made = schema()
    sections = {
        name: made["$defs"][about["$ref"].rpartition("/")[2]] for name, about in sections_of(made).items()
    }
    for name, section in sections.items():
        fields = type(RunConfig.model_fields[name].default).model_fields
        assert section["properties"].keys() == fields.keys()
    assert "dpo" in made["properties"]["method"]["enum"]
    for task in TASKS:
        for name, value in yaml.safe_load(text(task)).items():
            assert name in made["properties"]
            if isinstance(value, dict):
                known = made["properties"]["objective"] if name == "objective" else sections[name]
                assert value.keys() <= known["properties"].keys()
    assert {"type": "string"} in sections["model"]["properties"]["lora_targets"]["anyOf"]


def sections_of(made):
    """Property -> its reference to a section, also where a text may stand in its place."""
    refs = {}
    for name, about in made["properties"].items():
        options = [about, *about.get("anyOf", ()), *about.get("allOf", ())]
        found = [option for option in options if "$ref" in option]
        refs |= {name: found[0]} if found else {}
    return refs


def test_a_configuration_of_another_method_names_what_it_leaves_out(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(
        "method: dpo\nmodel: some/model\ndata: pairs.jsonl\nout: runs/x\nbeta: 0.3\ntrain: {lr: 1e-6}\n"
    )
    own = configured("dpo", config=file)
    assert (own.objective["beta"], own.train.lr, own.data.path) == (0.3, 1e-6, ["pairs.jsonl"])
    assert capsys.readouterr().err == ""
    other = configured("inpo", config=file, settings={"eta": 0.01})
    assert "beta" not in other.objective and other.objective["eta"] == 0.01
    assert (other.train.lr, other.model.path) == (1e-6, "some/model")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "inpo leaves out objective.beta=0.3" in said


@pytest.mark.parametrize("place", ["settings", "allow", "file"])
def test_one_allowed_name_alone_is_a_list_of_one(place, tmp_path):
    file = tmp_path / "align.yaml"
    file.write_text("method: dpo\n" + ("allow: few_steps\n" if place == "file" else ""))
    settings = {"allow": "few_steps"} if place == "settings" else {}
    made = configured("dpo", config=file, settings=settings, allow="few_steps" if place == "allow" else ())
    assert made.allow == ["few_steps"]


@pytest.mark.parametrize("settings", [{"allow": 3}, {"allow": [3]}, {"allow": {"few_steps": 1}}, ["lr=1"]])
def test_settings_of_a_wrong_type_are_refused(settings):
    with pytest.raises(ConfigError, match=r"allow must be a list of names|give a dictionary"):
        configured("dpo", settings=settings)


def test_a_parameter_of_the_same_name_is_not_taken_over():
    kept, left_out = of_another("ipo", resolve("dpo", {"objective.beta": 0.3}).plain())
    assert any(name.startswith("objective.beta=") for name in left_out)
    assert not any(name.startswith("objective") for name in kept) and kept["train.lr"] is not None


def test_the_folder_may_stand_in_the_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        f"method: dpo\nmodel: {tmp_path}/absent\ndata: {tmp_path}/absent.jsonl\nout: {tmp_path}/here\n"
    )
    (tmp_path / "here").write_text("a file")
    with pytest.raises(ConfigError, match="here is a file"):
        align("dpo", config=file, quiet=True)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["lr=1e-6,5e-6"], {"lr": [1e-6, 5e-6]}),
        (["lr=[1e-6, auto]", "beta=0.1"], {"lr": [1e-6, "auto"], "beta": [0.1]}),
        (["lora_targets=[[q_proj], [v_proj]]"], {"lora_targets": [["q_proj"], ["v_proj"]]}),
    ],
)
def test_lists_of_a_sweep(items, expected):
    assert parse(items) == expected


def test_a_sweep_of_a_file_is_every_combination(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("train:\n  lr: [1e-6, 2e-6]\nseed: [0, 1]\n")
    assert combinations(parse([str(file)])) == [
        {"train.lr": 1e-6, "seed": 0},
        {"train.lr": 1e-6, "seed": 1},
        {"train.lr": 2e-6, "seed": 0},
        {"train.lr": 2e-6, "seed": 1},
    ]
    file.write_text("lr: 3\n")
    with pytest.raises(ConfigError, match="lr needs a list"):
        parse([str(file)])
    with pytest.raises(ConfigError, match="no such file"):
        parse(["absent.yaml"])


def test_folders_of_a_sweep_are_safe_and_differ():
    assert folder_name({"train.lr": 1e-6, "seed": 1}) == "lr=1e-06,seed=1"
    hostile = [folder_name({"oracle": value}) for value in ("../../a", "../..*a", "x" * 500)]
    assert len(set(hostile)) == 3 and all("/" not in name and len(name) < 120 for name in hostile)


@pytest.mark.slow
def test_a_sweep_runs_all_goes_on_after_a_failure_and_compares(tmp_path, capsys):
    small = ["--set", "data.pairs=60", "evaluate.prompts=4", "evaluate.samples=1", "batch=32"]
    code, out, err = run(capsys, "align", "dpo", "--out", str(tmp_path), *small, "--sweep", "lr=1e-4,-1,2e-4")
    assert code == 2 and "no result: lr=-1" in err, err
    assert "lr=0.0001" in out and "lr=0.0002" in out and (tmp_path / "comparison.html").exists()
    assert {run.folder for run in runs(tmp_path)} == {"lr=0.0001", "lr=0.0002"}


@pytest.mark.slow
def test_a_sweep_says_which_run_left_the_support(tmp_path, capsys):
    small = ["--set", "evaluate.prompts=8", "epochs=1"]
    code, _, err = run(capsys, "align", "dpo", "--out", str(tmp_path), *small, "--sweep", "lr=0.1")
    assert code == 3 and "left the support of the reference: lr=0.1" in err, err


def finished(folder, method, **last):
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"method": method, "play": {"rounds": 2}, "data": {"path": ["a/b.jsonl"]}})
    )
    (folder / "evaluation.jsonl").write_text(
        json.dumps({"round": 0}) + "\n" + json.dumps({"round": 2, **last}) + "\n"
    )
    (folder / "summary.json").write_text("{}")
    os.utime(folder / "summary.json")


def test_runs_are_listed_with_their_main_figure(tmp_path, capsys):
    finished(tmp_path / "a", "dpo", accuracy={"value": 0.75})
    finished(tmp_path / "deep/b", "[red]inpo", win_rate={"value": 0.6})
    finished(tmp_path / "a/phases/sft", "sft")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/config.yaml").write_text("method: [broken")
    (tmp_path / "c/.lock").touch()
    found = {run.folder: run for run in runs(tmp_path)}
    assert found.keys() == {"a", "deep/b", "c"}
    assert (found["a"].figure, found["a"].rounds, found["a"].state, found["a"].data) == (
        "accuracy 75.0 %",
        "2/2",
        "finished",
        "b.jsonl",
    )
    assert found["deep/b"].figure == "win rate 60.0 %" and found["c"].state == "damaged"
    code, out, _ = run(capsys, "runs", str(tmp_path))
    assert code == 0 and "[red]inpo" in out
    code, out, _ = run(capsys, "runs", str(tmp_path), "--json")
    assert {one["folder"] for one in json.loads(out)} == found.keys()
    assert run(capsys, "runs", str(tmp_path / "absent"))[0] == 2


def test_a_run_that_left_the_support_is_listed_with_what_it_delivers(tmp_path, capsys):
    finished(tmp_path / "a", "dpo", accuracy={"value": 0.9})
    (tmp_path / "a/summary.json").write_text(json.dumps({"left_support": "round 2: far", "delivered": 0}))
    (one,) = runs(tmp_path)
    assert one.state == "left the support, delivers round 0" and one.figure == ""
    (tmp_path / "comparison.html").touch()
    code, _, err = run(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "comparison.html"))
    assert code == 0 and "comparison.html is a file and no run; it is left out" in err


def test_the_environment_has_versions_and_no_value_of_a_variable(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("EQUIPOISE_TEST", "hidden-value")
    code, out, _ = run(capsys, "env")
    assert code == 0 and "secret" not in out and "hidden-value" not in out
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in out and "torch" in out
    found = environment()
    assert found["packages"]["vllm"] and found["cpu"].endswith("cores")
    assert json.loads(run(capsys, "env", "--json")[1]).keys() == found.keys()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_list_of_methods_cuts_no_title_and_begins_with_where_to_start(width):
    console = Console(width=width, file=io.StringIO())
    print_methods(methods(), console)
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip() == "Start here" and max(map(len, lines)) <= width
    shown = " ".join(" ".join(lines).split())
    assert "…" not in shown
    names = {entry["name"] for entry in methods()}
    assert all(name in names for _, name, _ in START)
    if width == 80:
        assert len([line for line in lines[:11] if line.strip()]) == 2 + len(START)  # one line each


def test_commands_with_other_names_are_told():
    from equipoise.cli.looked_for import INSTEAD

    assert "--sweep" in INSTEAD["sweep"] and "init" not in INSTEAD
