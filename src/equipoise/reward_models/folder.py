"""Reward model on disk, in Hugging Face's layout: saved, and loaded as untrusted input.

A model with one reward is a plain sequence classifier (`AutoModelForSequenceClassification` reads it). For any other
head, config.json has a section `equipoise` (`Head`), and the last layer's outputs are its attributes, its embedding or
its comparison; the weights W that scale a general preference by the prompt are in prompt_scales.safetensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from equipoise.data.errors import DataError
from equipoise.data.rendering.tokens import load_tokenizer
from equipoise.models.adapters import local
from equipoise.models.errors import ModelError
from equipoise.models.folder import ModelFolder, inspect
from equipoise.policy.digests import verify, write_sums
from equipoise.policy.files import read_tensors, write_tensors
from equipoise.reward_models.bodies import check_finite, classifier, context_length, embedding_rows
from equipoise.reward_models.head import SECTION, Head
from equipoise.reward_models.layouts import published
from equipoise.reward_models.model import RewardModel, Scales
from equipoise.reward_models.texts import Texts

SCALES = "prompt_scales.safetensors"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")  # what verdicts depend on


@dataclass(frozen=True)
class Loaded:
    """A reward model that is ready to judge, and the texts that it reads.

    content   hash of its weights, configuration and tokenizer
    """

    model: RewardModel
    texts: Texts
    name: str
    content: str

    @property
    def head(self) -> Head:
        return self.model.head


def load(
    path: str | Path, *, dtype: str | None = "float32", device: str | torch.device | None = None
) -> Loaded:
    """Load a reward model's folder or hub name: ours, a plain classifier with one output, or a published layout.

    dtype    "float32", "bfloat16", "float16"; None: as it is stored
    device   None: the GPU if there is one

    Raises ModelError, in one sentence, for a folder that is broken or holds no trained reward model.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    try:
        folder = inspect(local(path, weights=True))
        verify(folder.path)
        tokenizer = load_tokenizer(folder.path)
        model, texts = _read(folder, tokenizer, DTYPES[dtype] if dtype else "auto", str(path))
    except (ModelError, DataError) as error:
        raise ModelError(_of(path, error)) from None
    check_finite(model, path)
    model.single()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Loaded(model.to(device).eval(), texts, str(path), content_hash(folder.path))


def _of(path: str | Path, error: Exception) -> str:
    said = str(error)
    return said if said.startswith(f"{path}") else f"cannot load a reward model from {path}: {said}"


def _read(folder: ModelFolder, tokenizer: Any, dtype: Any, name: str) -> tuple[RewardModel, Texts]:
    found = published(folder, tokenizer, dtype, name)
    if found is not None:
        return found
    section = folder.settings.get(SECTION)
    head = Head() if section is None else Head.of(section, f"{folder.path}/config.json")
    body = classifier(folder, dtype, name)
    if body.config.num_labels != head.outputs:
        raise ModelError(
            f"{name} has {body.config.num_labels} classes; a Bradley-Terry reward model has one output"
            if section is None
            else f"{name}: its head has {body.config.num_labels} outputs, its section {SECTION!r} says {head.outputs}"
        )
    texts = Texts(tokenizer, name, rows=embedding_rows(body), limit=context_length(body))
    scales = _scales(folder.path, body.config, head)
    return RewardModel(body, head, prompt_head=scales, pad=texts.pad), texts


def _scales(path: Path, config: Any, head: Head) -> Scales | None:
    if not head.scaled:
        return None
    try:
        tensors, _ = read_tensors(path / SCALES)
    except ValueError as error:
        raise ModelError(str(error)) from None
    scales = Scales(config.hidden_size, head.planes)
    expected = {name: tensor.shape for name, tensor in scales.state_dict().items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise ModelError(
            f"{path / SCALES} does not fit the head: it needs linear.weight {list(expected.values())}"
        )
    scales.load_state_dict(tensors)
    return scales


def check_new(out: Path) -> None:
    """Raises ModelError for a folder that exists."""
    if out.exists():
        raise ModelError(f"{out} exists; give another folder, or delete it to train again")


def save(model: RewardModel, texts: Texts, folder: Path) -> None:
    """Write a reward model that was trained here: configuration, safetensors, tokenizer, and the sums of all files.

    The folder may hold other files of the training already; they are summed too.
    """
    config = model.body.config
    config.num_labels = model.head.outputs
    if model.head.kind == "bt":
        config.id2label = dict(enumerate(model.head.attributes))
        config.label2id = {name: index for index, name in enumerate(model.head.attributes)}
    if model.head.plain:
        vars(config).pop(SECTION, None)
    else:
        setattr(config, SECTION, model.head.as_json())
    model.body.save_pretrained(str(folder), safe_serialization=True)
    texts.tokenizer.save_pretrained(str(folder))
    if model.prompt_head is not None:
        write_tensors(folder / SCALES, model.prompt_head.state_dict())
    write_sums(folder)


def content_hash(folder: Path) -> str:
    """Hash of a folder's weights, settings and tokenizer, by their content."""
    digest = hashlib.sha256()
    files: Mapping[str, Path] = {path.name: path for pattern in SETTINGS for path in folder.glob(pattern)}
    for name in sorted(files):
        digest.update(name.encode())
        with files[name].open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:32]
