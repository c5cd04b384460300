"""Exports and pushes of runs: read back by plain transformers and PEFT, readable by all, with a card of the facts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import equipoise as eq
from equipoise.api.export import export
from equipoise.api.push import push
from equipoise.cli.app import main
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.run.config import ConfigError

SETTINGS = {
    "evaluate.prompts": 3,
    "evaluate.samples": 2,
    "train.batch": 8,
    "train.lr": 1e-3,
    "sampling.max_new_tokens": 9,
}
IDS = torch.tensor([[1, 5, 6, 7, 8, 9]])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    return write_pairs(path, LanguageGame(), 24, seed=1, reference=reference_policy())


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The playground's model in bf16."""
    folder = tmp_path_factory.mktemp("half") / "model"
    AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path()).save_pretrained(folder)
    return folder


def play(folder, pairs, model, method="dpo", **more):
    settings = SETTINGS | more.pop("settings", {})
    return eq.align(
        method,
        model=model,
        data=pairs,
        out=folder,
        settings=settings,
        allow=["few_steps"],
        quiet=True,
        **more,
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory, pairs, half):
    return play(tmp_path_factory.mktemp("runs") / "full", pairs, half)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, pairs, half):
    return play(tmp_path_factory.mktemp("runs") / "lora", pairs, half, settings={"lora_rank": 4})


def logits(model):
    with torch.no_grad():
        return model(IDS).logits.float()


def modes(folder):
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_full_model_goes_out_as_it_came_in(full, half, tmp_path):
    before = os.umask(0o077)
    try:
        done = export(full, "merged", tmp_path / "out")
    finally:
        os.umask(before)
    assert done.said == "full model in bf16"
    assert modes(done.folder) == {0o644}
    given, made = load_file(half / "model.safetensors"), load_file(done.folder / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in made.items()} == {n: t.dtype for n, t in given.items()}
    rounded = AutoModelForCausalLM.from_pretrained(full.checkpoint, dtype=torch.bfloat16)
    read = AutoModelForCausalLM.from_pretrained(done.folder, local_files_only=True)
    assert read.dtype == torch.bfloat16
    assert torch.equal(logits(read), logits(rounded))
    assert not torch.equal(
        logits(read), logits(AutoModelForCausalLM.from_pretrained(half, dtype=torch.bfloat16))
    )
    assert AutoTokenizer.from_pretrained(done.folder)("tea")["input_ids"]


@pytest.mark.slow
def test_an_adapter_is_merged_or_goes_out_alone(adapted, half, tmp_path):
    wrapped = AutoPeftModelForCausalLM.from_pretrained(adapted.checkpoint, dtype=torch.float32)
    want = logits(wrapped.merge_and_unload())
    merged = export(adapted, "merged", tmp_path / "merged", dtype="fp32")
    read = AutoModelForCausalLM.from_pretrained(merged.folder)
    assert read.dtype == torch.float32 and torch.allclose(logits(read), want, atol=1e-5)
    as_given = export(adapted, "merged", tmp_path / "as-given")
    assert as_given.said == "full model in bf16, adapter merged"
    assert AutoModelForCausalLM.from_pretrained(as_given.folder).dtype == torch.bfloat16
    alone = export(adapted, "adapter", tmp_path / "adapter")
    assert not list(alone.folder.glob("model*.safetensors")) and modes(alone.folder) == {0o644}
    again = AutoPeftModelForCausalLM.from_pretrained(alone.folder, dtype=torch.float32)
    assert torch.allclose(logits(again), want, atol=1e-5)
    base = AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32)
    assert (logits(base) - want).abs().max() > 1e-3  # the adapter does something


@pytest.mark.slow
def test_gguf_ready_has_the_template_where_the_converter_reads_it(pairs, half, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(half)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    AutoModelForCausalLM.from_pretrained(half).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    run = play(tmp_path / "run", pairs, tmp_path / "model")
    done = export(run, "gguf-ready", tmp_path / "out")
    settings = json.loads((done.folder / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == tokenizer.chat_template
    assert "convert_hf_to_gguf.py" in done.said
    assert {path.name for path in done.folder.iterdir()} >= {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }


@pytest.mark.slow
def test_pairs_of_an_online_run_have_trls_columns(tmp_path):
    run = eq.align(
        "online_ipo", rounds=1, out=tmp_path / "run", settings=SETTINGS | {"play.prompts": 4}, quiet=True
    )
    done = export(run, "trl-jsonl", tmp_path / "out")
    rows = [json.loads(line) for line in (done.folder / "pairs.jsonl").read_text().splitlines()]
    assert rows and all(row.keys() == {"prompt", "chosen", "rejected"} for row in rows)
    oracle = LanguageGame().oracle()
    for row in rows:
        [p] = oracle.compare([row["prompt"]], [row["chosen"]], [row["rejected"]])
        assert p > 0.5, row
    assert eq.read(done.folder / "pairs.jsonl").kind == "pair"


@pytest.mark.parametrize(
    ("to", "options", "said"),
    [
        ("gguf", {}, "an export is one of merged, adapter, gguf-ready, trl-jsonl"),
        ("adapter", {}, "trained all weights: it has no adapter"),
        ("merged", {"dtype": "int4"}, "one of fp32, bf16, fp16"),
    ],
)
def test_what_cannot_be_exported_is_refused(full, tmp_path, to, options, said):
    with pytest.raises(ValueError, match=said):
        export(full, to, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_not_overwritten(full, half, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        export(full, "merged", tmp_path)
    with pytest.raises(ConfigError, match="is not a run folder"):
        export(half, "merged", tmp_path / "out")


def test_the_card_says_what_the_run_says_and_no_path(full, tmp_path):
    done = export(full, "merged", tmp_path / "out")
    text = (done.folder / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.library_name == "transformers" and "equipoise" in card.data.tags
    assert card.data.base_model is None  # a folder of this machine
    last = full.rounds[-1]
    assert f"{100 * last.accuracy.value:.1f} %" in text and f"| optimizer steps | {len(full.steps)} |" in text
    assert "| lr | 0.001 |" in text and full.summary["hash"] in text
    for private in (str(tmp_path.parent), str(full.folder), os.environ.get("HOME", "/root") + "/"):
        assert private not in text


class Hub:
    """The Hub's client, keeping what it is told."""

    def __init__(self):
        self.said, self.files = [], {}

    def create_repo(self, name, **options):
        self.said.append((name, options))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.files = {path.name: path.stat().st_size for path in Path(folder_path).iterdir()}


def test_push_makes_a_private_repository_with_the_policy_and_its_card(full, tmp_path):
    api = Hub()
    done = push(full, "someone/policy", client=lambda: api)
    assert done.address == "https://huggingface.co/someone/policy"
    assert api.said == [("someone/policy", {"private": True, "exist_ok": True})]
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= api.files.keys()
    assert not {"config.yaml", "inputs.json", "environment.json"} & api.files.keys()
    push(full, "someone/policy", private=False, client=lambda: api)
    assert api.said[-1][1]["private"] is False


def test_a_dry_run_of_push_writes_the_folder_and_asks_nobody(full, tmp_path):
    done = push(full, "someone/policy", dry_run=tmp_path / "out", client=lambda: pytest.fail("asked"))
    assert (
        done.address is None
        and 'from_pretrained("someone/policy")' in (done.folder / "README.md").read_text()
    )
    front = (done.folder / "README.md").read_text().split("---")[1]
    assert yaml.safe_load(front)["library_name"] == "transformers"


def test_what_the_hub_refuses_is_one_sentence(full):
    def refusing():
        raise OSError("401 Client Error\nlong text")

    with pytest.raises(ConfigError, match="refuses someone/policy: 401 Client Error; log in") as error:
        push(full, "someone/policy", client=refusing)
    assert "\n" not in str(error.value)
    for name in ("policy", "a/b/c", "some one/x"):
        with pytest.raises(ConfigError, match="is no repository"):
            push(full, name, client=refusing)


def test_the_commands(full, tmp_path, capsys):
    for arguments in (
        ["export", str(full.folder), "--to", "merged", "--out", str(tmp_path / "a")],
        ["push", str(full.folder), "--to", "someone/policy", "--dry-run", str(tmp_path / "b")],
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
    said = capsys.readouterr().out
    assert "full model in bf16" in said and f"written  {tmp_path / 'b'}" in said
