"""Weights of a checkpoint folder, by the names of the model's own parameters.

Names in files are those of the published format. transformers may hold the same weights under other names, or fused: a
mixture of experts is one file entry for each expert and one parameter for all. PEFT's files leave out the name of the
adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor

from equipoise.models.errors import ModelError, first_line
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_tensors
from equipoise.policy.loading import adapter_weights
from equipoise.policy.scorer import causal_lm


def stored_weights(policy: CausalPolicy, folder: Path) -> dict[str, Tensor]:
    """The checkpoint's weight for every trained parameter, by the parameter's name.

    Raises ModelError naming the first weight that is missing or of another shape.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no .safetensors file")
    try:
        tensors = {name: value for file in files for name, value in read_tensors(file)[0].items()}
    except ValueError as error:
        raise ModelError(str(error)) from None
    trained = dict(policy.parameters())
    if hasattr(policy.model, "peft_config"):
        # parameters and entries of the files share memory
        entries = {
            value.data_ptr(): name for name, value in adapter_weights(policy.model, base=False).items()
        }
        named = {name: tensors.get(entries.get(p.data_ptr(), "")) for name, p in trained.items()}
    else:
        converted = as_loaded(causal_lm(policy.model), tensors)
        named = {name: converted.get(name) for name in trained}
    found = {}
    for name, value in named.items():
        shape = trained[name].shape
        if value is None or value.shape != shape:
            what = "missing" if value is None else f"of shape {tuple(value.shape)}"
            raise ModelError(f"{folder}: weight {name} is {what}; the model has {tuple(shape)}")
        found[name] = value
    return found


def as_loaded(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model's files by the model's own names, renamed, merged and split as transformers loads them.

    Raises ModelError if they cannot be converted.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    changes = get_model_conversion_mapping(model)
    renamings = [change for change in changes if isinstance(change, WeightRenaming)]
    converters = [change for change in changes if isinstance(change, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    own = model.state_dict()
    loaded: dict[str, Tensor] = {}
    gathered: dict[str, WeightConverter] = {}
    for name in sorted(tensors, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, own)
        if target not in own and name in own:
            target, pattern = name, None
        if pattern is None:
            loaded[target] = tensors[name]
        else:
            converter = gathered.setdefault(target, deepcopy(by_pattern[pattern]))
            converter.add_tensor(target, name, pattern, tensors[name])  # type: ignore[arg-type]  # says Future
    for target, converter in gathered.items():
        try:
            values = converter.convert(target, model=model, config=model.config)
        except Exception as error:  # noqa: BLE001 - a foreign conversion may raise anything
            raise ModelError(f"cannot make {target} of the stored weights: {first_line(error)}") from None
        loaded |= {name: value[0] if isinstance(value, list) else value for name, value in values.items()}
    return loaded
