"""What a run depends on: a resumed run joins nothing that does not belong together."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from equipoise.cli.app import main
from equipoise.data.rendering.render import Renderer
from equipoise.oracles.rules.rule_sources import distribution, sources
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.policy.causal import CausalPolicy
from equipoise.run import inputs
from equipoise.run.config import ConfigError, resolve
from equipoise.run.inputs import LARGE, Hasher, of_files
from equipoise.run.session import align

RULE = "from helper import bonus\n\ndef score(prompt, response):\n    return bonus() * len(response)\n"
HELPER = "def bonus():\n    return 1.0\n"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A finished run with a rule that imports another file, a template file, and copies of all that it reads."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copytree(model_path(), folder / "model")
    write_pairs(folder / "pairs.jsonl", LanguageGame(), 24, seed=1, reference=reference_policy())
    (folder / "rule.py").write_text(RULE)
    (folder / "helper.py").write_text(HELPER)
    (folder / "chat.jinja").write_text(TEMPLATE)
    play(folder)
    return folder


def play(folder: Path, **more):
    """The same call, in the folder."""
    here, known = Path.cwd(), list(sys.path)
    os.chdir(folder)
    sys.modules.pop("helper", None)
    try:
        return align(
            "dpo",
            model="model",
            data="pairs.jsonl",
            oracle="rule.py:score",
            out="run",
            quiet=True,
            settings={
                "evaluate.prompts": 2,
                "evaluate.samples": 1,
                "train.batch": 12,
                "sampling.max_new_tokens": 4,
                "data.template": "chat.jinja",
                "play.rounds": 1,
            },
            **more,
        )
    finally:
        os.chdir(here)
        sys.path[:] = known


@pytest.fixture
def copy(begun, tmp_path):
    shutil.copytree(begun, tmp_path / "copy")
    return tmp_path / "copy"


def another_model(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    weights[name] = weights[name] + 0.5
    save_file(weights, path, metadata={"format": "pt"})


def another_configuration(folder: Path) -> None:
    path = folder / "model" / "generation_config.json"
    path.write_text(json.dumps({"temperature": 0.25}))


def another_tokenizer(folder: Path) -> None:
    path = folder / "model" / "tokenizer.json"
    path.write_text(path.read_text() + "\n")


CHANGES = {
    "model": (another_model, "model model.safetensors: has changed"),
    "configuration": (another_configuration, "model generation_config.json: (has changed|is new)"),
    "tokenizer": (another_tokenizer, "tokenizer tokenizer.json: has changed"),
    "rule": (
        lambda f: (f / "rule.py").write_text(RULE.replace("len", "-len")),
        "oracle rule.py: has changed",
    ),
    "helper": (
        lambda f: (f / "helper.py").write_text("def bonus(): return -1"),
        "oracle helper.py: has changed",
    ),
    "data": (
        lambda f: (f / "pairs.jsonl").write_text((f / "pairs.jsonl").read_text() + "\n"),
        "data pairs.jsonl: has changed",
    ),
    "template": (lambda f: (f / "chat.jinja").write_text(TEMPLATE + "!"), "data chat.jinja: has changed"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_input_is_refused_with_the_difference(copy, monkeypatch, what):
    change, says = CHANGES[what]
    change(copy)
    before = {f: f.read_bytes() for f in (copy / "run").rglob("*") if f.is_file()}
    monkeypatch.setattr(CausalPolicy, "load", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(ConfigError, match=rf"(?s)begun with something else:\n  {says}.*--allow changed_"):
        play(copy)
    assert {f: f.read_bytes() for f in (copy / "run").rglob("*") if f.is_file()} == before


def test_an_allowed_change_is_recorded_and_reported_and_needs_no_second_word(copy):
    CHANGES["rule"][0](copy)
    play(copy, allow=["changed_oracle"])
    (line,) = [g for g in json.loads((copy / "run/gates.json").read_text()) if g["name"] == "changed_oracle"]
    assert line["allowed"] and not line["passed"] and "oracle rule.py: has changed" in line["sentence"]
    assert "oracle rule.py: has changed since the run began" in (copy / "run/report.html").read_text()
    play(copy)  # the run goes on with what was allowed
    CHANGES["helper"][0](copy)
    with pytest.raises(ConfigError, match=r"helper\.py"):
        play(copy)


def test_the_same_contents_elsewhere_are_the_same_inputs(copy):
    for name in ("model/model.safetensors", "pairs.jsonl", "rule.py"):
        os.utime(copy / name)
    play(copy)


def test_a_folder_that_does_not_say_what_it_depends_on_is_refused(copy):
    (copy / "run/inputs.json").unlink()
    with pytest.raises(ConfigError, match=r"(?s)another format.*--allow changed_format"):
        play(copy)


def test_a_template_that_writes_the_date_is_seen_on_another_day():
    dated = "{{ strftime_now('%d %b %Y') }} " + TEMPLATE
    letters = Tokenizer(BPE({c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}, []))
    letters.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters)

    def on(day, template):
        return inputs._template(Renderer(tokenizer, template=template, max_length=200, template_date=day))

    assert on("2031-02-03", dated) == on("2031-02-03", dated) != on("2031-02-04", dated)
    assert on("2031-02-03", TEMPLATE) == on("2031-02-04", TEMPLATE)


@pytest.mark.parametrize("named", ["../base", "base"])
def test_an_adapters_base_is_an_input_wherever_the_loader_finds_it(tmp_path, named, monkeypatch):
    """A name relative to the adapter, and a moved checkpoint whose base lies beside it."""
    monkeypatch.chdir(tmp_path)  # whose parent has no folder "base"
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder, file in ((base, "config.json"), (adapter, "adapter_config.json")):
        folder.mkdir()
        (folder / file).write_text(json.dumps({"base_model_name_or_path": named}))
    (base / "model.safetensors").write_bytes(b"weights")
    (base / "tokenizer.json").write_text("{}")
    config = resolve("dpo", {"model.path": str(adapter), "data.path": ["none"]})
    found = of_files(config, Hasher())
    assert {"adapter_config.json", "base/config.json", "base/model.safetensors"} == found["model"].keys()
    assert found["tokenizer"].keys() == {"tokenizer.json"}


def test_an_adapters_base_and_a_reward_models_folder_are_inputs(tmp_path):
    base, adapter, reward = (tmp_path / name for name in ("base", "adapter", "reward"))
    for folder in (base, adapter, reward):
        folder.mkdir()
    for folder in (base, reward):
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (adapter / "adapter_model.safetensors").write_bytes(b"adapter")
    config = resolve("inpo", {"model.path": str(adapter), "data.path": ["none"], "oracle": str(reward)})
    found = of_files(config, Hasher())
    assert {"adapter_model.safetensors", "base/model.safetensors", "base/config.json"} <= found[
        "model"
    ].keys()
    (base / "model.safetensors").write_bytes(b"others!")
    (reward / "model.safetensors").write_bytes(b"others!")
    again = of_files(config, Hasher())
    assert again["model"] != found["model"] and again["oracle"] != found["oracle"]


def test_a_file_given_twice_and_a_folder_are_inputs(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "b.jsonl").write_text("{}")
    one, two = (
        of_files(resolve("dpo", {"data.path": [str(tmp_path / "a.jsonl")] * times}), Hasher())["data"]
        for times in (1, 2)
    )
    assert len(one) == 1 and len(two) == 2
    inside = of_files(resolve("dpo", {"data.path": [str(tmp_path / "many")]}), Hasher())["data"]
    assert [Path(name).name for name in inside] == ["b.jsonl"]


def test_large_files_are_hashed_once_until_they_change(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(bytes(LARGE))
    hasher = Hasher()
    first = hasher(path)
    monkeypatch.setattr(inputs, "sha256", lambda p: "read again")
    assert hasher(path) == first
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"\1")
    os.utime(
        path, ns=(stat.st_atime_ns, stat.st_mtime_ns)
    )  # the same size and time: its change is seen still
    assert hasher(path) == "read again"


def test_sources_of_a_rule(tmp_path, monkeypatch):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("import json\nfrom . import other\n")
    (package / "other.py").write_text("")
    (tmp_path / "beside.py").write_text("def f():\n    import pack.inner\n")
    (tmp_path / "unused.py").write_text("")
    (tmp_path / "rule.py").write_text("import torch, json\nfrom beside import f\nimport equipoise.games\n")
    names = [p.relative_to(tmp_path).as_posix() for p in sources(f"{tmp_path / 'rule.py'}:score")]
    assert names == ["rule.py", "beside.py", "pack/__init__.py", "pack/inner.py", "pack/other.py"]
    monkeypatch.syspath_prepend(tmp_path)
    assert sources("pack.inner:f")[0] == (package / "inner.py").resolve()
    assert distribution("pack.inner:f") is None
    assert distribution("numpy:f").startswith("numpy ")
    assert sources("no_such_module_here:f") == []


# Configuration files and code


def test_a_configuration_file_does_not_run_code_by_itself(copy):
    (copy / "rule.py").write_text("raise AssertionError('it ran')\n" + RULE)
    config = copy / "run" / "config.yaml"
    config.write_text(
        config.read_text().replace("allow: []", "allow: [config_code]")
    )  # its own word is not enough
    with pytest.raises(
        ConfigError, match=r"names an oracle that is code, rule\.py:score.*--allow config_code"
    ):
        align("dpo", config=config, out=copy / "other", quiet=True)
    assert not (copy / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize("named", [{"oracle": "rule.py:score"}, {"allow": ["config_code"]}])
def test_named_code_of_a_configuration_file_is_run(copy, monkeypatch, named):
    monkeypatch.chdir(copy)
    again = align("dpo", config="run/config.yaml", out="other", quiet=True, **named)
    first = json.loads((copy / "run/summary.json").read_text())
    assert again.summary["win_rate"] == first["win_rate"]


# The folder


def test_two_runs_in_one_process(copy):
    """The package's own name for the function is the function, also after its module was imported."""
    import equipoise as eq

    assert callable(eq.align)
    assert play(copy).summary["status"] == "finished"
    assert eq.align is align


@pytest.mark.parametrize("made", ["new", "deep/new", "empty"])
def test_a_refused_run_leaves_no_folder_that_it_made(tmp_path, made):
    out = tmp_path / made
    if made == "empty":
        out.mkdir()
    with pytest.raises(ConfigError, match="give --data"):
        align("dpo", model=model_path(), out=out, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == (["empty"] if made == "empty" else [])
    assert made != "empty" or list(out.iterdir()) == []


def test_a_second_process_writes_nothing(copy):
    from equipoise.file_lock import take

    before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in (copy / "run").rglob("*") if f.is_file()}
    held = take(copy / "run/.lock")  # another opening of the file, as by another process
    with pytest.raises(ConfigError, match="another process is running"):
        play(copy, seed=5)
    held.release()
    assert {
        f: (f.stat().st_mtime_ns, f.read_bytes()) for f in (copy / "run").rglob("*") if f.is_file()
    } == before


def test_an_unknown_gate_is_named(capsys):
    with pytest.raises(SystemExit) as end:
        main(["align", "dpo", "--allow", "changed_oracles"])
    assert end.value.code == 2
    assert "no gate 'changed_oracles'; did you mean 'changed_oracle'" in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["config.yaml", "checkpoints/initial", "checkpoints"])
def test_a_folder_with_rounds_is_a_begun_run_whatever_was_deleted(copy, gone):
    """Without its settings or its first policy a folder would else count as new, and take any model or data."""
    path = copy / "run" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    CHANGES["data"][0](copy)
    with pytest.raises(ConfigError, match=r"config\.yaml is missing|data pairs\.jsonl: has changed"):
        play(copy)


def test_settings_that_were_edited_by_hand_are_not_those_of_the_run(copy):
    """The edited file and the command agree; the rounds that are there were played with other settings."""
    stored = copy / "run" / "config.yaml"
    stored.write_text(stored.read_text().replace("seed: 0", "seed: 5"))
    with pytest.raises(ConfigError, match=r"config\.yaml was edited: the run was begun with other"):
        play(copy, seed=5)
