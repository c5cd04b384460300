"""Bodies of reward models: transformers models read from their files, with every weight there and finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from equipoise.models.errors import ModelError
from equipoise.models.folder import ModelFolder
from equipoise.policy.loading import read_model


def classifier(folder: ModelFolder, dtype: Any, name: str) -> Any:
    """The sequence classifier in a folder, every weight of it read from its files. Raises ModelError."""
    from transformers import AutoModelForSequenceClassification

    return from_files(AutoModelForSequenceClassification, folder, dtype, name)


def from_files(kind: Any, folder: ModelFolder, dtype: Any, name: str, **how: Any) -> Any:
    """A transformers model of some kind from its folder. Raises ModelError if a weight is missing."""
    model, loading = read_model(kind, folder.path, "a reward model", dtype=dtype, **how)
    if loading["missing_keys"]:  # transformers would initialise them at random
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise ModelError(f"{name} is not a trained reward model: the checkpoint lacks {missing}")
    return model


def check_finite(model: nn.Module, name: str | Path) -> None:
    """Raises ModelError for a weight that is NaN or infinite."""
    for own, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                f"{name}: the weight {own.removeprefix('body.')} has NaN or infinite values; the checkpoint is broken"
            )


def embedding_rows(body: Any) -> int:
    """Rows of a model's embedding."""
    return int(body.get_input_embeddings().weight.shape[0])


def context_length(body: Any) -> int | None:
    """Most tokens of a text; None if the model names no limit. RoBERTa's kind counts positions from behind padding."""
    limit = getattr(body.config, "max_position_embeddings", None)
    offsets = [
        int(module.padding_idx) + 1
        for name, module in body.named_modules()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    return int(limit) - max(offsets, default=0) if limit else None
