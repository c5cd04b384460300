"""The functions of the package, called as a user of Python calls them: several times, with objects, typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import equipoise as eq
from equipoise.data.errors import DataError
from equipoise.data.reading.given_rows import given_rows, paths_of
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.report.run.load import RunFolderError
from equipoise.run.config import ConfigError

HOLDS_ITSELF: list = []
HOLDS_ITSELF.append(HOLDS_ITSELF)
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "evaluate.prompts": 3,
    "evaluate.samples": 2,
    "train.batch": 8,
    "sampling.max_new_tokens": 9,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    write_pairs(path, LanguageGame(), 24, seed=1, reference=reference_policy())
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def loaded():
    return AutoModelForCausalLM.from_pretrained(model_path()), AutoTokenizer.from_pretrained(model_path())


def play(out, method="dpo", **more):
    settings = SETTINGS | more.pop("settings", {})
    return eq.align(method, out=out, settings=settings, allow=["few_steps"], quiet=True, **more)


@pytest.fixture(scope="module")
def run(tmp_path_factory, loaded, rows):
    model, tokenizer = loaded
    return play(tmp_path_factory.mktemp("runs") / "dpo", model=model, tokenizer=tokenizer, data=rows)


def test_objects_are_files_of_the_run(run, rows, loaded):
    """The model as safetensors with equal weights, the rows as JSON lines; both are named by what they hold."""
    data, model = sorted((run.folder / "given").iterdir())
    assert [json.loads(line) for line in data.read_text().splitlines()] == rows
    assert run.summary["model"] == str(model.resolve()) and run.summary["data"] == [str(data.resolve())]
    stored = AutoModelForCausalLM.from_pretrained(model)
    for name, weight in loaded[0].state_dict().items():
        assert torch.equal(stored.state_dict()[name], weight), name
    assert not list(model.rglob("*.bin"))
    inputs = json.loads((run.folder / "inputs.json").read_text())["inputs"]
    assert "model.safetensors" in inputs["model"] and str(data.resolve()) in inputs["data"]


def test_the_same_objects_resume_a_run_and_others_are_refused(run, rows, loaded, monkeypatch):
    model, tokenizer = loaded
    monkeypatch.chdir(run.folder.parent)  # named by another path, the folder is the same
    before = (run.folder / "metrics.jsonl").read_bytes()
    again = play(run.folder.name, model=model, tokenizer=tokenizer, data=iter(rows))
    assert (again.folder / "metrics.jsonl").read_bytes() == before
    there = sorted(path.name for path in (run.folder / "given").iterdir())
    with pytest.raises(ConfigError, match=r"other settings:\n  data\.path"):
        play(run.folder, model=model, tokenizer=tokenizer, data=rows[:-1])
    moved = AutoModelForCausalLM.from_pretrained(model_path())
    with torch.no_grad():
        next(moved.parameters()).add_(1e-3)
    with pytest.raises(ConfigError, match=r"other settings:\n  model\.path"):
        play(run.folder, model=moved, tokenizer=tokenizer, data=rows)
    assert sorted(path.name for path in (run.folder / "given").iterdir()) == there


def test_objects_and_files_give_the_same_policy(run, rows, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = play(tmp_path / "run", model=model_path(), data=path)
    mine, theirs = (one.checkpoint / "model.safetensors" for one in (run, other))
    assert mine.read_bytes() == theirs.read_bytes()


def test_a_refused_call_with_objects_leaves_nothing_behind(tmp_path, loaded, rows):
    model, tokenizer = loaded
    with pytest.raises(ConfigError, match="needs an oracle"):
        play(tmp_path / "new" / "run", "online_ipo", model=model, tokenizer=tokenizer, data=rows)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "tokenizer", "said"),
    [
        (3, None, "the model is of type int: give a folder"),
        ("some/name", "given", "tokenizer= belongs to a loaded model"),
        ("loaded", object(), "the tokenizer is of type object"),
        (torch.nn.Linear, None, "the model is the class Linear"),
        ("loaded", dict, "the tokenizer is the class dict"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, loaded, model, tokenizer, said):
    model = loaded[0] if model == "loaded" else model
    with pytest.raises(ConfigError, match=said):
        play(tmp_path / "run", model=model, tokenizer=tokenizer)
    assert not list(tmp_path.iterdir())


def test_a_model_with_an_adapter_is_given_as_its_folder(tmp_path, loaded):
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(model_path())
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ConfigError, match=r"save the adapter with model\.save_pretrained\(FOLDER\)"):
        play(tmp_path / "run", model=wrapped, tokenizer=loaded[1])
    assert not list(tmp_path.iterdir())


class Frame:
    """What a pandas.DataFrame offers, by the operations that are used of it; missing cells become None."""

    def __init__(self, rows):
        self.rows = rows

    def notna(self):
        return [[value == value for value in row.values()] for row in self.rows]

    def astype(self, kind):
        assert kind is object
        return self

    def where(self, known, other):
        return Frame(
            [
                {
                    name: value if here else other
                    for (name, value), here in zip(row.items(), line, strict=True)
                }
                for row, line in zip(self.rows, known, strict=True)
            ]
        )

    def to_dict(self, orient):
        assert orient == "records"
        return self.rows


def test_tables_are_read_by_what_they_can_do():
    import pyarrow

    rows = [{"prompt": "a", "score": 1.0}, {"prompt": "b", "score": None}]
    want = given_rows(rows)
    assert want is not None and want.count == 2
    assert given_rows(pyarrow.Table.from_pylist(rows)) == want
    assert given_rows(Frame([rows[0], {"prompt": "b", "score": float("nan")}])) == want
    assert given_rows(row for row in rows) == want


@pytest.mark.parametrize("library", ["pandas", "polars", "datasets"])
def test_tables_of_libraries_are_read_as_their_rows(library):
    tables = pytest.importorskip(library)
    rows = [{"prompt": "a", "score": 1.0}, {"prompt": "b", "score": 2.0}]
    table = tables.Dataset.from_list(rows) if library == "datasets" else tables.DataFrame(rows)
    assert given_rows(table) == given_rows(rows)


def test_files_are_no_rows():
    for files in (
        "a.jsonl",
        Path("a.jsonl"),
        ["a.jsonl", {"path": "b.jsonl", "weight": 2}],
        {"path": "a.jsonl"},
    ):
        assert given_rows(files) is None
    assert list(paths_of(["a.jsonl", {"path": "b", "weight": 2}])) == ["a.jsonl", {"path": "b", "weight": 2}]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "hold no rows"),
        ({"train": [1]}, "give one split, such as data\\['train'\\]"),
        (7, "the data are of type int; give files, or rows"),
        ([{"prompt": "a"}, "b.jsonl"], "row 2 of the data is of type str"),
        ([{1: "a"}], "row 1 of the data has the column 1"),
        ([{"prompt": float("nan")}], "row 1 of the data, column 'prompt': nan is no number"),
        ([{"prompt": "a", "image": b"x"}], "column 'image': a value of type bytes"),
        ([{"prompt": "a \ud800"}], "column 'prompt': the text has half of a surrogate pair, U\\+D800"),
        ([{"prompt": {"\udfff": 1}}], "column 'prompt': the text has half of a surrogate pair, U\\+DFFF"),
        (
            [{"prompt": "a"}, {"prompt": HOLDS_ITSELF}],
            "row 2 of the data, column 'prompt': the value is nested",
        ),
    ],
)
def test_what_holds_no_rows_is_refused(data, said):
    with pytest.raises(DataError, match=said):
        given_rows(data)


def test_load_run_gives_what_align_gave(run, tmp_path):
    again = eq.load_run(run.folder)
    assert again == run
    assert again.checkpoint == run.checkpoint and again.best is None
    assert [line.round for line in again.rounds] == [0, 1] and again.steps and again.samples
    assert "Direct Preference Optimization, finished" in again._repr_html_()
    with pytest.raises(RunFolderError, match="is not a run folder"):
        eq.load_run(tmp_path)


@pytest.mark.slow
def test_compare_names_what_differs(run, tmp_path, rows, loaded):
    model, tokenizer = loaded
    other = play(tmp_path / "ipo", "ipo", model=model, tokenizer=tokenizer, data=rows)
    found = eq.compare(run, other.folder)
    first, *_ = found.found.groups
    assert first.rows[0].name == "reference" and len(first.rows) == 3
    assert "method" in dict(found.found.settings)
    accuracies = [
        row.figures["accuracy"] for group in found.found.groups for row in group.rows if row.index == 0
    ]
    assert run.rounds[-1].accuracy in accuracies
    assert json.loads(json.dumps(found.as_json()))["runs"][0]["folder"] == str(run.folder)
    assert "Settings that differ" in found._repr_html_()
    assert found.save(tmp_path / "page.html").read_text().startswith("<!doctype html>")
    third = play(tmp_path / "fewer", model=model, tokenizer=tokenizer, data=rows[:-1])
    assert any("data" in sentence for sentence in eq.compare(run, third).found.apart)


def test_sample_and_evaluate_are_what_the_commands_do(run, rows, tmp_path):
    from equipoise.cli.app import main

    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = eq.sample(run, rows, count=2, max_new_tokens=6, out=tmp_path / "python.jsonl")
    with pytest.raises(SystemExit) as end:
        main(
            ["sample", str(run.folder), "--data", str(path), "-n", "2", "--max-new-tokens", "6", "--out",
             str(tmp_path / "command.jsonl")]
        )  # fmt: skip
    assert end.value.code == 0
    assert (tmp_path / "python.jsonl").read_bytes() == (tmp_path / "command.jsonl").read_bytes()
    assert [answer.text for _, answer in made] == made.texts and len(made) == len(made.texts)

    def long(prompt, response):
        return float(len(response))

    found = eq.evaluate(run, data=rows, oracle=long, out=tmp_path / "evaluation", max_new_tokens=6)
    assert found.results["asked"]["oracle"].startswith("python:")
    assert found.results["win_rates"][0]["candidate"] == run.folder.name
    assert json.loads((tmp_path / "evaluation" / "results.json").read_text()) == found.results
    assert "Win rate against" in found._repr_html_() and found.page.is_file()


def test_sample_takes_prompts_as_texts(run):
    made = eq.sample(run, prompts=["On a sunny morning a merry poet asks for tea."], max_new_tokens=4)
    assert [prompt for prompt, _ in made] == ["On a sunny morning a merry poet asks for tea."]
    with pytest.raises(ConfigError, match="write prompts=\\[TEXT\\]"):
        eq.sample(run, prompts="text")
    with pytest.raises(ConfigError, match="write prompts=\\[TEXT\\]"):
        eq.sample(run, prompts=3)
    with pytest.raises(ConfigError, match="one of the two"):
        eq.sample(run)


def test_counts_and_models_that_are_none_are_refused(run):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        eq.sample(run, prompts=["text"], count=0)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        eq.evaluate(run, count=0)
    with pytest.raises(ConfigError, match="evaluate what"):
        eq.evaluate()
    with pytest.raises(ConfigError, match="got one of type int"):
        eq.compare(run, 3)


def test_html_of_results_is_escaped(tmp_path, run):
    data = eq.read([{"prompt": "<script>alert(1)</script>", "chosen": "<b>", "rejected": "\x1b[2J"}])
    html = data._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>&" not in html and "\x1b" not in html


TYPED = """
from pathlib import Path

import equipoise as eq


def shorter(prompt: str, response: str) -> float:
    return -float(len(response))


run: eq.Run = eq.align("dpo", data=[{"prompt": "a", "chosen": "b", "rejected": "c"}], oracle=shorter)
again: eq.Run = eq.load_run(Path("runs") / "x")
rows: int = len(eq.read("pairs.jsonl", limit=3))
found: eq.Comparison = eq.compare(run, again, "runs/y")
judged: eq.Evaluation = eq.evaluate(run, oracle=shorter, data="prompts.jsonl")
texts: list[str] = eq.sample(run, prompts=["a"]).texts
reveal_type(judged.results)
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_a_users_file_is_typed_strictly(tmp_path):
    pytest.importorskip("mypy")
    file = tmp_path / "user.py"
    file.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-incremental"]
    done = subprocess.run(
        [*command, "--config-file", str(ROOT / "pyproject.toml"), str(file)],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Revealed type is "typing.Mapping[str, Any]"' in done.stdout.replace("builtins.str", "str")


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import equipoise.evaluate",
        pytest.param("import equipoise.evaluate.text", marks=pytest.mark.nightly),
        pytest.param("", marks=pytest.mark.nightly),
    ],
)
def test_evaluate_is_called_whatever_was_imported_before(first):
    code = f"{first}\nimport equipoise as eq\nassert callable(eq.evaluate)\ntry:\n    eq.evaluate()\n"
    code += "except Exception as error:\n    print(type(error).__name__)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() in ("ConfigError", "OracleError", "ValueError")


def test_no_library_of_tables_is_imported():
    code = (
        "import sys, equipoise as eq\n"
        "eq.read([{'prompt': 'a', 'chosen': 'b', 'rejected': 'c'}])\n"
        "print([n for n in ('pandas', 'polars', 'datasets', 'torch') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == "[]"
