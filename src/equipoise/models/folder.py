"""Model folder of a full model: its configuration and weight headers, checked without loading a weight."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.models.errors import ModelError, first_line
from equipoise.models.files import Header, check_files, headers, read_object

ADAPTER_CONFIG = "adapter_config.json"
LARGEST = 2**40  # an integer setting; beyond it nothing real is meant
MOST_LAYERS = 10_000
_LAYERS = re.compile(r"(^|_)layers?$")
# settings that are at least 1, under the names that families use for them
_POSITIVE = re.compile(
    r"^(num_hidden_layers|n_layers?|num_layers|max_position_embeddings|n_positions|vocab_size)$"
)


@dataclass(frozen=True)
class ModelFolder:
    """A full model on disk: settings of its config.json, and the headers of its weights by name."""

    path: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, Header]

    @property
    def dtype(self) -> str:
        """The dtype of most of its weights, as safetensors names it: "F32", "BF16", "F16"."""
        sizes: dict[str, int] = {}
        for header in self.tensors.values():
            sizes[header.dtype] = sizes.get(header.dtype, 0) + header.size
        return max(sizes, key=lambda name: sizes[name])

    @property
    def size(self) -> int:
        """Number of stored weights."""
        return sum(header.size for header in self.tensors.values())


def inspect(path: Path) -> ModelFolder:
    """Check a full model's folder. Raises ModelError, in one sentence, for what no run could use."""
    if not path.is_dir():
        raise ModelError(
            f"cannot load a causal language model from {path}: there is no such folder; give a model's folder or its "
            "name on the hub"
        )
    check_files(path)
    if not (path / "config.json").exists() and not (path / "config.json").is_symlink():
        raise ModelError(f"{path} is not a model's folder: config.json is missing{_hint(path)}")
    settings = read_object(path / "config.json")
    check_settings(path, settings)
    tensors = headers(path, "model")
    if (path / "generation_config.json").exists():
        _check_ends(path / "generation_config.json")
    return ModelFolder(path, settings, tensors)


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Check a model's settings by themselves. Raises ModelError naming the first one that cannot be."""
    if settings.get("quantization_config"):
        raise ModelError(
            f"{path} is quantised; training needs the weights themselves: give the model it was made from"
        )
    if "transformers_weights" in settings:
        raise ModelError(f"{path}/config.json names its own weights file, which is not followed; remove it")
    for name, value in _leaves(settings):
        last = name.rpartition(".")[2]
        if last.endswith("_implementation") and isinstance(value, str) and "/" in value:
            raise ModelError(
                f"{path}/config.json asks for code from the hub ({name}: {value}), which is never run"
            )
        if isinstance(value, int) and not isinstance(value, bool):
            layers = _LAYERS.search(last) and abs(value) > MOST_LAYERS
            if layers or abs(value) > LARGEST or (_POSITIVE.match(last) and value < 1):
                raise ModelError(f"{path}/config.json: {name} is {value}, which no model has")


def _check_ends(path: Path) -> None:
    """The ends of a sequence that a generation configuration names: token ids, or none."""
    ends = read_object(path).get("eos_token_id")
    for end in ends if isinstance(ends, list) else [ends]:
        if end is not None and (not isinstance(end, int) or isinstance(end, bool) or end < 0):
            raise ModelError(f"{path}: eos_token_id must be a token id or a list of them, got {ends!r}")


def described(folder: ModelFolder) -> Any:
    """The model that the configuration describes, without memory for its weights, which are compared with the files.

    Returns a transformers model on the "meta" device. Raises ModelError if transformers knows no such causal language
    model, if the settings do not fit together, or if a stored weight has another shape.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    path = folder.path
    names = [str(name) for name in folder.settings.get("architectures") or []]
    if any("Classification" in name for name in names):
        raise ModelError(
            f"{path} is a classifier ({names[0]}), not a policy; a reward model is given as the oracle"
        )
    try:
        config = AutoConfig.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # noqa: BLE001 - a configuration class may raise anything
        raise ModelError(f"{path}/config.json cannot be used: {first_line(error)}") from None
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{path} is an encoder-decoder ({config.model_type}); a policy is a causal language model"
        )
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - a model class may raise anything
        raise ModelError(f"cannot load a causal language model from {path}: {first_line(error)}") from None
    _compare(folder, model)
    return model


def _compare(folder: ModelFolder, model: Any) -> None:
    """Shapes of the files against those of the configuration, for all weights that have the same name in both."""
    for name, expected in model.state_dict().items():
        stored = folder.tensors.get(name)
        if stored is not None and stored.shape != tuple(expected.shape):
            raise ModelError(
                f"{stored.file}: {name} has shape {stored.shape}, but config.json makes it {tuple(expected.shape)}"
            )
    wanted = sum(parameter.numel() for parameter in model.parameters())
    if wanted > 2 * folder.size:
        raise ModelError(
            f"{folder.path}/config.json describes {wanted:,} weights, but its files hold {folder.size:,}"
        )


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _hint(path: Path) -> str:
    """What the folder may have been meant for."""
    if (path / "checkpoints").is_dir():
        last = sorted(p.name for p in (path / "checkpoints").glob("round-*"))[-1:] or ["initial"]
        return f"; this is a run's folder: give {path / 'checkpoints' / last[0]}"
    inside = sorted(p.parent.name for p in path.glob(f"*/{ADAPTER_CONFIG}"))
    return f"; it holds several adapters: give one of {', '.join(inside)}" if inside else ""
