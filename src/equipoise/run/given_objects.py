"""Model and data given as Python objects: written into the run folder, so that resuming and provenance stay right."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch

from equipoise.data.reading.given_rows import GivenRows, given_rows
from equipoise.data.rendering.render import load_tokenizer
from equipoise.policy.files import whole, write_text
from equipoise.run.config import ConfigError

FOLDER = "given"
PICKLES = (".bin", ".pt", ".pth", ".pkl")


class Loaded(Protocol):
    """A model in memory, as transformers makes them."""

    def state_dict(self) -> Any: ...

    def save_pretrained(self, save_directory: str) -> Any: ...


ModelLike: TypeAlias = "str | Path | Loaded"


@dataclass(frozen=True)
class GivenModel:
    """A loaded model with its tokenizer, under a name that says what they hold."""

    model: Any
    tokenizer: Any
    name: str

    def write(self, folder: Path) -> None:
        """Save as safetensors, in the dtype that the weights have. Raises ConfigError for a model that is pickled."""
        with whole(folder) as draft:
            draft.mkdir()
            self.model.save_pretrained(str(draft))
            self.tokenizer.save_pretrained(str(draft))
            pickled = [file.name for file in draft.iterdir() if file.suffix in PICKLES]
            if pickled:
                raise ConfigError(
                    f"the model saves itself as {pickled[0]}, a pickle; give one that saves safetensors"
                )


@dataclass(frozen=True)
class Objects:
    """What of a call was given as objects; they lie in the folder `given` of the run, by the hash of their content."""

    model: GivenModel | None = None
    rows: GivenRows | None = None

    @property
    def any(self) -> bool:
        return self.model is not None or self.rows is not None

    def places(self, folder: Path) -> dict[str, str]:
        """The settings that name the objects in a run folder."""
        root = folder.resolve() / FOLDER
        found = {"model": self.model, "data": self.rows}
        return {name: str(root / one.name) for name, one in found.items() if one is not None}

    @contextmanager
    def written(self, folder: Path) -> Iterator[None]:
        """Context manager: the objects are in the run folder; those that a refused run brought are removed again."""
        root, new = folder / FOLDER, []
        if self.model is not None and not (root / self.model.name).exists():
            self.model.write(root / self.model.name)
            new.append(root / self.model.name)
        if self.rows is not None and not (root / self.rows.name).exists():
            write_text(root / self.rows.name, self.rows.text)
            new.append(root / self.rows.name)
        try:
            yield
        except BaseException:
            for path in new:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if new and not any(root.iterdir()):
                root.rmdir()
            raise


def objects_of(model: Any, tokenizer: Any, data: Any) -> Objects:
    """The objects among a call's arguments. Raises ConfigError for one that cannot be used."""
    return Objects(_model(model, tokenizer), given_rows(data))


def _model(model: Any, tokenizer: Any) -> GivenModel | None:
    if model is None or isinstance(model, str | Path):
        if tokenizer is not None:
            raise ConfigError(
                "tokenizer= belongs to a loaded model; a model's folder or hub name has its own"
            )
        return None
    if isinstance(model, type) or not (hasattr(model, "save_pretrained") and hasattr(model, "state_dict")):
        raise ConfigError(
            f"the model is {_kind(model)}: give a folder, a hub name or a loaded transformers model"
        )
    if hasattr(model, "peft_config") or getattr(model, "_hf_peft_config_loaded", False):
        raise ConfigError(
            "the model has a PEFT adapter, whose base may differ in memory from the one that the adapter names: save "
            "the adapter with model.save_pretrained(FOLDER), and give the folder"
        )
    if tokenizer is None:
        named = str(getattr(model, "name_or_path", "") or "")
        if not named:
            raise ConfigError(
                "a loaded model comes without its tokenizer: give it too, with tokenizer=TOKENIZER"
            )
        tokenizer = load_tokenizer(named)
    if isinstance(tokenizer, type) or not hasattr(tokenizer, "save_pretrained"):
        raise ConfigError(
            f"the tokenizer is {_kind(tokenizer)}: give one of transformers, such as "
            "AutoTokenizer.from_pretrained(FOLDER)"
        )
    return GivenModel(model, tokenizer, f"model-{_digest(model, tokenizer)[:12]}")


def _kind(given: Any) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"of type {type(given).__name__}"


def _digest(model: Any, tokenizer: Any) -> str:
    """Hash of the weights, the configuration and the tokenizer's files: equal for equal models, wherever loaded."""
    found = hashlib.sha256()
    settings = dict(model.config.to_dict())
    for passing in ("_name_or_path", "transformers_version"):
        settings.pop(passing, None)
    found.update(repr(sorted(settings.items(), key=lambda item: item[0])).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_meta:
            raise ConfigError(
                f"the model's weight {name} is not in memory; load the model without offloading"
            )
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()
