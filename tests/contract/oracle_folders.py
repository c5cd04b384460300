"""Folders of the listed oracles: tiny models made once in a process and copied, YAML files, and edits of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contract.oracle_rows import Listed
from equipoise import oracles
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import Oracle
from equipoise.playground import model_path
from equipoise.policy.digests import SUMS, write_sums
from equipoise.run.gathering.oracle import ORACLES

CPU = Placement(device="cpu", tokens=256)  # several batches to five questions
FILE = "oracle.yaml"
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TURNS = """{% if tools %}tools: {{ tools | tojson }}
{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""
Make = Callable[[Path], Any]
Edit = Callable[[Path], None]


def row(
    kind: str,
    settings: Mapping[str, Any],
    models: Mapping[str, Make],
    files: Mapping[str, str] | None = None,
    ready: Callable[[Oracle, Path], Any] | None = None,
    **listed: Any,
) -> Listed:
    """The row of an oracle that a YAML file makes, from models and files beside it.

    ready    what is done with the oracle before it can answer
    """

    def build(folder: Path) -> Oracle:
        file = folder / FILE
        if not file.is_file():
            for name, make in models.items():
                copied(folder / name, make)
            for name, text in (files or {}).items():
                (folder / name).write_text(text, encoding="utf-8")
            file.write_text(json.dumps({"kind": kind, **settings}), encoding="utf-8")
        oracle = loaded(file)
        if ready is not None:
            ready(oracle, folder)
        return oracle

    return Listed(build=build, kind=kind, **listed)


def loaded(spec: Path) -> Oracle:
    """The oracle of a file or folder, unwrapped, so that the suite and not `Checked` judges its answers."""
    policy = oracles.Policy(wait=0.0)
    return bare(oracles.load(str(spec), policy=policy, placement=CPU, kinds=ORACLES))


def bare(checked: Checked) -> Oracle:
    """What `load` wraps."""
    oracle = unwrapped(checked)
    assert oracle is not None
    return oracle


def copied(folder: Path, make: Make) -> None:
    """Copies what `make` writes, which it does once in a process; a folder that is there is left alone."""
    if not folder.is_dir():
        shutil.copytree(_made(make).name, folder)


@cache
def _made(make: Make) -> TemporaryDirectory[str]:
    folder = TemporaryDirectory()
    make(Path(folder.name))
    return folder


# tiny models --------------------------------------------------------------------------------------


def words() -> Any:
    """The playground's tokenizer: 64 words, and no chat template."""
    return AutoTokenizer.from_pretrained(model_path())


def characters() -> Any:
    """A tokenizer of bytes that reads every text, with a chat template."""
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(["<pad>", "</s>", *bytes_])}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", chat_template=TURNS
    )


def drawn(model: Any, seed: int) -> Any:
    """The model with weights large enough that mistakes show."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


def language_model(folder: Path, *, seed: int, tokenizer: Callable[[], Any]) -> None:
    reads = tokenizer()
    config = LlamaConfig(
        **SHAPE,
        vocab_size=len(reads),
        max_position_embeddings=1024,
        bos_token_id=reads.bos_token_id,
        eos_token_id=reads.eos_token_id,
        pad_token_id=reads.pad_token_id,
    )
    drawn(LlamaForCausalLM(config), seed).save_pretrained(folder)
    reads.save_pretrained(folder)


STRONG = partial(language_model, seed=1, tokenizer=characters)
WEAK = partial(language_model, seed=2, tokenizer=characters)
SAYS_WORDS = partial(language_model, seed=3, tokenizer=words)


# edits --------------------------------------------------------------------------------------------


def moved(model: str = ".") -> Edit:
    """An edit: weights of a folder moved, and its sums written anew, where it has some."""

    def edit(folder: Path) -> None:
        weights = folder / model / "model.safetensors"
        save_file({name: 1.5 * t for name, t in load_file(weights).items()}, weights, {"format": "pt"})
        summed(folder / model)

    return edit


def summed(model: Path) -> None:
    if (model / SUMS).is_file():
        (model / SUMS).unlink()
        write_sums(model)


def changed(**settings: Any) -> Edit:
    """An edit: other settings in the oracle's file."""
    return changed_json(FILE, **settings)


def changed_json(file: str, **settings: Any) -> Edit:
    """An edit: other values in a JSON file; a mapping's are put among those that are there."""

    def edit(folder: Path) -> None:
        path = folder / file
        there = json.loads(path.read_text(encoding="utf-8"))
        for name, value in settings.items():
            there[name] = there.get(name, {}) | value if isinstance(value, dict) else value
        path.write_text(json.dumps(there), encoding="utf-8")
        summed(path.parent)

    return edit
