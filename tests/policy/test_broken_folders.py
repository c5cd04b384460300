"""Broken and hostile model folders: each ends in one sentence before compute, without a traceback or a hang."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.policy.conftest import IDS, SHAPE
from transformers import AutoModelForCausalLM, LlamaConfig

from equipoise.cli.app import main
from equipoise.data.errors import DataError
from equipoise.data.rendering.render import load_tokenizer
from equipoise.data.rendering.tokens import longest_sequence
from equipoise.playground import model_path
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import ModelError

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
SOME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A sound folder, which every case breaks in a copy."""
    folder = tmp_path_factory.mktemp("models") / "good"
    torch.manual_seed(0)
    config = LlamaConfig(**(SHAPE | IDS | {"num_key_value_heads": 2, "tie_word_embeddings": False}))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(model_path() / name, folder)
    return folder


def config(**changes):
    def broken(folder):
        path = folder / "config.json"
        settings = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in settings.items() if v is not ...}))

    return broken


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def data(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def gone(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def weights(change):
    def broken(folder):
        path = folder / "model.safetensors"
        stored = load_file(path)
        change(stored)
        save_file(stored, path, metadata={"format": "pt"})

    return broken


def header(content):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return data("model.safetensors", struct.pack("<Q", len(raw)) + raw)


def cut(share):
    def broken(folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return broken


def sharded(change):
    """Two shards and an index, changed by change(folder, index)."""

    def broken(folder):
        stored = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(stored)
        shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for shard, inside in shards.items():
            save_file({n: stored[n] for n in inside}, folder / shard, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": {n: shard for shard, inside in shards.items() for n in inside}}
        change(folder, index)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return broken


def placed(where):
    def change(folder, index):
        index["weight_map"][SOME] = where

    return sharded(change)


def special(name, make):
    def broken(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return broken


def loop(path):
    other = path.with_name("other")
    path.symlink_to(other)
    other.symlink_to(path)


def huge(path):
    with path.open("wb") as file:
        file.truncate(2**33)  # sparse


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def outside(folder):
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    (folder / "model.safetensors").unlink()
    names = dict.fromkeys(load_file(folder.parent / "outside.safetensors"), "../outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def template(content):
    def broken(folder):
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | content))

    return broken


def filled(value):
    return weights(lambda stored: stored[SOME].__setitem__((2, 3), value))


HUGE = 10**9
BROKEN = {
    # weights
    "weights cut in half": cut(0.5),
    "weights cut in the header": cut(0.01),
    "weights without their last bytes": cut(0.99),
    "weights of no byte": data("model.safetensors", b""),
    "weights of eight bytes": data("model.safetensors", b"\0" * 8),
    "weights of zeros": data("model.safetensors", b"\0" * 4096),
    "weights of text": data("model.safetensors", b"<html>not found</html>"),
    "weights are a large-file pointer": data(
        "model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"
    ),
    "a header longer than the file": data("model.safetensors", struct.pack("<Q", 2**40) + b"{}"),
    "a header that is no JSON": header(b"{" * 64),
    "a header that is a list": header([]),
    "a header with offsets outside": header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
    "a header with a negative shape": header({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
    "a header with an unknown dtype": header({"a": {"dtype": "F77", "shape": [0], "data_offsets": [0, 0]}}),
    "a header nested deep": header(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "no tensor": lambda folder: save_file({}, folder / "model.safetensors"),
    "one tensor missing": weights(lambda stored: stored.pop(SOME)),
    "a tensor of another shape": weights(lambda stored: stored.update({SOME: torch.zeros(3, 3)})),
    "a tensor transposed": weights(lambda stored: stored.update({SOME: stored[SOME].T.contiguous()})),
    "tensors under other names": weights(
        lambda stored: [stored.update({f"x.{n}": stored.pop(n)}) for n in list(stored)]
    ),
    "weights of an adapter in a full folder": weights(
        lambda stored: stored.update({"model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 32)})
    ),
    "a NaN": filled(float("nan")),
    "an infinity": filled(float("inf")),
    "a negative infinity": filled(float("-inf")),
    "no weights": gone("model.safetensors"),
    "pickled weights only": pickled,
    "weights are a folder": special("model.safetensors", Path.mkdir),
    "weights are a pipe": special("model.safetensors", os.mkfifo),
    "weights are a loop of links": special("model.safetensors", loop),
    "weights are a link to nothing": special("model.safetensors", lambda p: p.symlink_to("nowhere")),
    "weights are a device": special("model.safetensors", lambda p: p.symlink_to("/dev/zero")),
    # shards
    "a shard is missing": sharded(lambda folder, index: (folder / "b.safetensors").unlink()),
    "a shard is cut": sharded(lambda folder, index: (folder / "b.safetensors").write_bytes(b"\0" * 99)),
    "a shard is pickled": placed("pytorch_model.bin"),
    "a shard lies outside": outside,
    "a shard has an absolute path": placed("/etc/passwd.safetensors"),
    "a shard lies in a folder": placed("sub/a.safetensors"),
    "a shard has a path of another system": placed("..\\a.safetensors"),
    "a shard is a number": placed(3),
    "a shard lacks what the index says": placed("b.safetensors"),
    "an index without a map": sharded(lambda folder, index: index.pop("weight_map")),
    "an index with an empty map": sharded(lambda folder, index: index.update(weight_map={})),
    "an index with a list": sharded(lambda folder, index: index.update(weight_map=["a.safetensors"])),
    # configuration
    "no configuration": gone("config.json"),
    "a configuration of no byte": text("config.json", ""),
    "a configuration that is no JSON": text("config.json", "{ not json"),
    "a configuration that is a list": text("config.json", "[1, 2]"),
    "a configuration that is a number": text("config.json", "3"),
    "a configuration nested deep": text("config.json", '{"a":' * 100_000 + "1" + "}" * 100_000),
    "a configuration of bytes": data("config.json", b"\xff\xfe\x00\x01"),
    "a configuration is a pipe": special("config.json", os.mkfifo),
    "a configuration of 8 GB": special("config.json", huge),
    "a configuration is a loop of links": special("config.json", loop),
    "no model type": config(model_type=..., architectures=...),
    "an unknown model type": config(model_type="llama99"),
    "a model type that is a number": config(model_type=7),
    "code of its own": config(
        model_type="mine", auto_map={"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.C"}
    ),
    "an encoder-decoder": config(model_type="t5", architectures=["T5ForConditionalGeneration"]),
    "an encoder-decoder by its flag": config(is_encoder_decoder=True),
    "an image model": config(model_type="vit", architectures=["ViTModel"]),
    "a classifier": config(architectures=["LlamaForSequenceClassification"]),
    "another family": config(model_type="gpt2", architectures=["GPT2LMHeadModel"]),
    "quantised by gptq": config(quantization_config={"quant_method": "gptq", "bits": 4}),
    "quantised in an unknown way": config(quantization_config={"quant_method": "zip"}),
    "quantised by a word": config(quantization_config="yes"),
    "weights named in the configuration": config(transformers_weights="../../x.bin"),
    "attention from the hub": config(_attn_implementation="someone/kernel"),
    "an unknown activation": config(hidden_act="wobble"),
    "an activation that is a number": config(hidden_act=3),
    "a negative size": config(hidden_size=-32),
    "a size of zero": config(hidden_size=0),
    "a size that is text": config(hidden_size="32"),
    "a size that is a fraction": config(hidden_size=32.5),
    "a size that is a list": config(hidden_size=[32]),
    "a size that is nothing": config(hidden_size=None),
    "a huge size": config(hidden_size=HUGE),
    "a huge vocabulary": config(vocab_size=HUGE),
    "a smaller vocabulary": config(vocab_size=10),
    "heads that do not divide": config(num_attention_heads=5),
    "no heads": config(num_attention_heads=0),
    "negative heads": config(num_attention_heads=-4),
    "no key heads": config(num_key_value_heads=0),
    "key heads that do not divide": config(num_key_value_heads=3),
    "more layers than there are": config(num_hidden_layers=5),
    "a billion layers": config(num_hidden_layers=HUGE),
    "fewer layers than there are": config(num_hidden_layers=1),
    "negative layers": config(num_hidden_layers=-1),
    "layers that are text": config(num_hidden_layers="two"),
    "a number without end": config(max_position_embeddings=10**400),
    "a context of zero": config(max_position_embeddings=0),
    "a negative context": config(max_position_embeddings=-5),
    "a context that is text": config(max_position_embeddings="long"),
    "an unknown rope": config(rope_parameters={"rope_type": "spiral", "rope_theta": 1e4}),
    "a rope that is text": config(rope_parameters="default"),
    "a padding token outside": config(pad_token_id=10**6),
    # generation
    "a generation configuration that is no JSON": text("generation_config.json", "{"),
    "a generation configuration that is a list": text("generation_config.json", "[]"),
    "a generation configuration is a pipe": special("generation_config.json", os.mkfifo),
    "an end that is text": text("generation_config.json", '{"eos_token_id": "</s>"}'),
    "an end that is negative": text("generation_config.json", '{"eos_token_id": [2, -7]}'),
    # tokenizer
    "no tokenizer": gone(*TOKENIZER),
    "a tokenizer of no byte": text("tokenizer.json", ""),
    "a tokenizer that is no JSON": text("tokenizer.json", "{not json"),
    "a tokenizer that is a list": text("tokenizer.json", "[]"),
    "a tokenizer without a model": text("tokenizer.json", '{"version": "1.0"}'),
    "a tokenizer of an unknown model": text(
        "tokenizer.json", '{"version": "1.0", "model": {"type": "Magic"}}'
    ),
    "a tokenizer is a pipe": special("tokenizer.json", os.mkfifo),
    "a tokenizer is a link to nothing": special("tokenizer.json", lambda p: p.symlink_to("nowhere")),
    "a tokenizer of 8 GB": special("tokenizer.json", huge),
    "tokenizer settings that are no JSON": text("tokenizer_config.json", "{"),
    "tokenizer settings that are a list": text("tokenizer_config.json", "[]"),
    "a tokenizer with code of its own": template(
        {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    ),
    "a template is a pipe": special("chat_template.jinja", os.mkfifo),
    "the folder is a file": lambda folder: (shutil.rmtree(folder), folder.write_text("x")),
    "the folder is empty": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "the folder is not there": shutil.rmtree,
    "the folder is a loop of links": lambda folder: (shutil.rmtree(folder), loop(folder)),
}


def broken(good, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    (tmp_path / "evil.py").write_text("raise SystemExit('code ran')")
    shutil.copy(tmp_path / "evil.py", folder / "evil.py")
    BROKEN[name](folder)
    return folder


def load(folder):
    tokenizer = load_tokenizer(folder)
    longest_sequence(folder)
    return CausalPolicy.load(folder, tokenizer, device="cpu")


def test_the_unbroken_folder_loads(good):
    assert load(good).max_positions == 64


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_sentence(good, tmp_path, name):
    folder = broken(good, tmp_path, name)
    begin = time.monotonic()
    with pytest.raises((ModelError, DataError)) as raised:
        load(folder)
    assert time.monotonic() - begin < 20
    first, *hint = str(raised.value).splitlines()
    assert len(hint) <= 1  # a DataError's second line says what to do
    assert len(first) < 600
    assert "Traceback" not in str(raised.value)
    assert str(folder) in first


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "weights cut in half",
        "a NaN",
        "a shard lies outside",
        "weights are a pipe",
        "no tokenizer",
        "heads that do not divide",
    ],
)
def test_a_run_refuses_it_with_exit_2(good, tmp_path, name, capsys):
    folder = broken(good, tmp_path, name)
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"a cup {i}", "chosen": " of tea", "rejected": " of ink"} for i in range(20)]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(SystemExit) as end:
        main(["align", "dpo", "--model", str(folder), "--data", str(pairs), "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "error: " in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "checkpoints").exists()
