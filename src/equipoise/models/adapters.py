"""PEFT adapters and what they stand on: the chain from a folder down to the full model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.models.errors import ModelError, first_line
from equipoise.models.files import Header, check_files, headers, read_object
from equipoise.models.folder import ADAPTER_CONFIG, ModelFolder, inspect

MOST_ADAPTERS = 8  # on top of one another
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
MERGED_BASE = "base"  # folder among a run's checkpoints: the model that their adapters belong to
SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on disk: its adapter_config.json, and the headers of its weights by name."""

    path: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, Header]

    @property
    def rank(self) -> int:
        return int(self.settings["r"])

    @property
    def alpha(self) -> float:
        return float(self.settings["lora_alpha"])


@dataclass(frozen=True)
class Chain:
    """A policy on disk: a full model, and the adapters on it, the innermost first."""

    base: ModelFolder
    adapters: tuple[Adapter, ...] = ()

    @property
    def base_name(self) -> str:
        """The name by which the outermost adapter's base can be loaded from here: as it is given, if that works."""
        named = str(self.adapters[-1].settings["base_model_name_or_path"])
        on_disk = (self.adapters[-1].path / named).is_dir() or not HUB_NAME.fullmatch(named)
        return str(self.base.path.resolve()) if on_disk and not Path(named).is_dir() else named

    @property
    def top(self) -> Path:
        """The folder that was given."""
        return self.adapters[-1].path if self.adapters else self.base.path


def chain(path: str | Path) -> Chain:
    """Follow a folder or hub name down to its full model, and check every part without loading a weight.

    Raises ModelError, in one sentence, for a part that is missing, broken, of an unsupported kind, or that stands on
    itself.
    """
    folders = lineage(path, weights=True)
    return Chain(inspect(folders[-1]), tuple(_adapter(folder) for folder in reversed(folders[:-1])))


def lineage(path: str | Path, *, weights: bool = False) -> list[Path]:
    """The folder that a path names and, for an adapter, what it stands on, down to the full model; nothing is checked.

    weights    of hub names, fetch the weights too.
    """
    folders = [local(path, weights=weights)]
    while is_adapter(folders[-1]):
        base = _base(folders[-1], weights)
        if any(base.resolve() == known.resolve() for known in folders) or len(folders) > MOST_ADAPTERS:
            raise ModelError(
                f"{folders[0]}: the adapter stands on itself: {ADAPTER_CONFIG} leads back to {base}"
            )
        folders.append(base)
    return folders


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter. Raises ModelError if it also holds a full model: which one is meant?"""
    if not (folder / ADAPTER_CONFIG).exists():
        return False
    if (folder / "config.json").exists() and any(folder.glob("model*.safetensors*")):
        raise ModelError(f"{folder} holds both a full model and an adapter; give each a folder of its own")
    return True


def local(path: str | Path, revision: str | None = None, *, weights: bool = False) -> Path:
    """The folder of a model: the path itself, or the snapshot of a hub name, which is downloaded if need be.

    Fetched are settings and tokenizer, and with `weights` the safetensors files of its index. Raises ModelError.
    """
    folder = Path(path)
    if folder.is_dir() or folder.is_symlink() or not HUB_NAME.fullmatch(str(path)):
        return folder
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(str(path), revision=revision, allow_patterns=list(SETTINGS)))
        if not weights:
            return found
        stem = "adapter_model" if (found / ADAPTER_CONFIG).exists() else "model"
        index = found / f"{stem}.safetensors.index.json"
        names = [f"{stem}.safetensors"]
        if index.exists():
            names += sorted({str(n) for n in (read_object(index).get("weight_map") or {}).values()})
        return Path(snapshot_download(str(path), revision=revision, allow_patterns=[*SETTINGS, *names]))
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - network, permissions, names: the hub's library raises many types
        raise ModelError(
            f"cannot load a causal language model from {path}: there is no such folder, and the hub answers: "
            f"{first_line(error)}; without network, download the model where there is one and give its folder"
        ) from None


def _base(folder: Path, weights: bool) -> Path:
    settings = read_object(folder / ADAPTER_CONFIG)
    named = settings.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ModelError(f"{folder / ADAPTER_CONFIG} does not say which model the adapter belongs to")
    places = [Path(named), folder / named]
    if Path(named).name == MERGED_BASE:  # a run's checkpoints may have moved, together with their base
        places.append(folder.parent / MERGED_BASE)
    for place in places:
        if place.is_dir() and place.resolve() != folder.resolve():
            return place
    if Path(named).is_absolute() or not HUB_NAME.fullmatch(named):
        if Path(named).is_dir():
            return Path(named)
        raise ModelError(
            f"{folder} is an adapter of {named}, which does not exist; set base_model_name_or_path in {ADAPTER_CONFIG}"
        )
    revision = settings.get("revision")
    return local(named, revision if isinstance(revision, str) else None, weights=weights)


def _adapter(folder: Path) -> Adapter:
    check_files(folder)
    settings = read_object(folder / ADAPTER_CONFIG)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"{folder} is a {kind} adapter; only LoRA is supported: merge it into its model first"
        )
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= 2**20:
        raise ModelError(f"{folder / ADAPTER_CONFIG}: r must be a positive integer, got {rank!r}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < float("inf"):
        raise ModelError(f"{folder / ADAPTER_CONFIG}: lora_alpha must be a positive number, got {alpha!r}")
    return Adapter(folder, settings, headers(folder, "adapter_model"))
