"""The policy is the one that was given: full, adapter, adapter on an adapter, bf16; what cannot be used is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from cases.conftest import SMALL
from cases.families import FAMILIES

PAIRS = [
    {"prompt": f"Which river is number {i}?", "chosen": " The wide one.", "rejected": " I do not know."}
    for i in range(6)
]


def logits(folder: Path, text: str = "Which river runs through the town?") -> torch.Tensor:
    """Of a folder as plain transformers and peft read it; an adapter's base is what its configuration names."""
    about = folder / "adapter_config.json"
    if about.exists():
        base = Path(json.loads(about.read_text())["base_model_name_or_path"])
        model = PeftModel.from_pretrained(_model(base), str(folder))
    else:
        model = _model(folder)
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return model.float().eval()(ids).logits


def _model(folder: Path):
    if (folder / "adapter_config.json").exists():
        base = Path(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])
        return PeftModel.from_pretrained(_model(base), str(folder)).merge_and_unload()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture
def adapter(models, write, equipoise, tmp_path: Path) -> Path:
    """A LoRA adapter that a first stage has trained away from its base."""
    write(PAIRS)
    done = equipoise(
        f"align dpo --model {models('qwen')} --data rows.jsonl --out first {SMALL} lora_rank=4 lr=3e-2 epochs=3"
    )
    assert done.code == 0, done.text
    return tmp_path / "first" / "checkpoints" / "round-001"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        "",
        pytest.param("lora_rank=4", marks=pytest.mark.nightly),
        pytest.param("adapter=merge", marks=pytest.mark.nightly),
        "adapter=merge lora_rank=2",
    ],
)
def test_a_second_stage_starts_where_the_first_one_ended(
    settings: str, adapter: Path, equipoise, tmp_path: Path
):
    given = logits(adapter)
    base = Path(json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"])
    assert (given - logits(base)).abs().max() > 1e-3
    done = equipoise(f"align ipo --model {adapter} --data rows.jsonl --out second {SMALL} {settings}")
    assert done.code == 0, done.text
    start = logits(tmp_path / "second" / "checkpoints" / "initial")
    assert (start - given).abs().max() < 1e-4
    trained = logits(tmp_path / "second" / "checkpoints" / "round-001")
    assert (trained - given).abs().max() > 0


@pytest.mark.slow
def test_an_adapter_of_nothing_is_refused(adapter: Path, equipoise, tmp_path: Path):
    broken = tmp_path / "broken"
    shutil.copytree(adapter, broken)
    weights = load_file(broken / "adapter_model.safetensors")
    save_file(
        {f"other.{name}": value for name, value in weights.items()}, broken / "adapter_model.safetensors"
    )
    refused = equipoise(f"align ipo --model {broken} --data rows.jsonl --out third {SMALL}")
    assert refused.code == 2 and "adapter" in refused.text and not (tmp_path / "third").exists()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("family", ["llama", "qwen", "gemma2", "mistral", "gpt2", "mixtral", "qwen3moe"])
def test_every_family_trains_and_loads_again_with_plain_transformers(
    family: str, models, write, equipoise, tmp_path
):
    write(PAIRS)
    done = equipoise(f"align dpo --model {models(family)} --data rows.jsonl --out run {SMALL}")
    assert done.code == 0, done.text
    trained = tmp_path / "run" / "checkpoints" / "round-001"
    _, loading = AutoModelForCausalLM.from_pretrained(trained, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert (
        logits(tmp_path / "run" / "checkpoints" / "initial") - logits(Path(models(family)))
    ).abs().max() < 1e-5


@pytest.mark.slow
def test_a_bf16_model_is_exported_in_its_dtype(write, equipoise, tmp_path: Path):
    folder = FAMILIES["llama"]().save(tmp_path / "half", torch.bfloat16)
    write(PAIRS)
    done = equipoise(f"align dpo --model {folder} --data rows.jsonl --out run {SMALL}")
    assert done.code == 0
    exported = load_file(tmp_path / "run" / "export" / "model.safetensors")
    assert {value.dtype for value in exported.values()} == {torch.bfloat16}


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def not_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickled_by_index(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    pickled(folder)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "pytorch_model.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def config(**changes):
    def change(folder: Path) -> None:
        about = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(about | changes))

    return change


def template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }")


BROKEN = {
    "truncated weights": truncated,
    "empty weights": empty,
    "weights that are no numbers": not_numbers,
    "pickled weights": pickled,
    "an index of pickled weights": pickled_by_index,
    "a config that is no JSON": lambda folder: (folder / "config.json").write_text("{ not json"),
    "an unknown architecture": config(model_type="no_such_model"),
    "sizes that do not fit": config(hidden_size=48),
    "a negative size": config(num_hidden_layers=-1),
    "a size that is text": config(hidden_size="many"),
    "an unknown quantisation": config(quantization_config={"quant_method": "no_such"}),
    "a template that does not parse": template,
    "no tokenizer": lambda folder: [file.unlink() for file in folder.glob("tokenizer*")],
    "a tokenizer that is no JSON": lambda folder: (folder / "tokenizer.json").write_text("[1, 2"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_model_folder_ends_in_one_line_before_anything_is_written(
    kind: str, models, write, equipoise, tmp_path: Path
):
    folder = tmp_path / "model"
    shutil.copytree(models("qwen"), folder)
    BROKEN[kind](folder)
    chat = [{"prompt": [{"role": "user", "content": row["prompt"]}]} | {
        side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")
    } for row in PAIRS]  # fmt: skip
    write(chat)
    refused = equipoise(f"align dpo --model {folder} --data rows.jsonl --out run {SMALL}")
    assert refused.code == 2, refused.text
    assert "error:" in refused.err and "Traceback" not in refused.text
    assert str(folder) in refused.err.replace("\n", "")
    assert len(refused.err[refused.err.index("error:") :].strip().splitlines()) <= 6
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_larger_than_the_embedding_is_refused_by_the_check_too(
    models, write, equipoise, tmp_path: Path
):
    tokenizer = AutoTokenizer.from_pretrained(models("qwen_small_embedding"))
    without_row = tokenizer.decode([len(tokenizer) - 1])
    assert max(tokenizer(without_row)["input_ids"]) == len(tokenizer) - 1
    write([row | {"chosen": row["chosen"] + without_row} for row in PAIRS])
    for command in ("data check rows.jsonl", "align dpo --data rows.jsonl --out run"):
        refused = equipoise(f"{command} --model {models('qwen_small_embedding')}")
        assert refused.code == 2 and "embedding" in refused.text, refused.text
    assert not (tmp_path / "run").exists()
