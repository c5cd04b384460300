"""Loading of a start policy: a full model, or a full model with the PEFT adapters that stand on it.

The policy that a folder means is its full model with every adapter of its chain added. All but the outermost adapter
are merged into the weights; the outermost is trained further, or merged too.
"""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from equipoise.models.adapters import Adapter, Chain
from equipoise.models.errors import ModelError, first_line
from equipoise.models.folder import ModelFolder, described, inspect
from equipoise.policy.files import whole
from equipoise.policy.held_weights.frozen_base import (
    Base,
    base_of,
    compute_where_trained,
    exact_buffers,
    hold,
    in_float32,
    read_record,
    stored_in_bfloat16,
)
from equipoise.policy.held_weights.quantized import head_name, settings_of

log = logging.getLogger(__name__)

ADAPTER_CHOICES = ("auto", "continue", "merge")
# buffers that old checkpoints carry and models compute themselves
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|\.attn\.(masked_)?bias|\.position_ids)$")
_ADAPTED = re.compile(r"(^|\.)(lora_|base_layer\.|modules_to_save\.)")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """LoRA settings asked for: rank 0 asks for none; alpha None is twice the rank, targets None every linear layer."""

    rank: int = 0
    alpha: float | None = None
    targets: list[str] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Start:
    """How a start policy was loaded.

    chain      what it is on disk.
    continued  whether its outermost adapter is trained further; False: all its adapters are merged.
    created    rank of a new adapter, 0 for none.
    base       how its base is held.      under    how the full model was held that the chain's adapters stand on.
    """

    chain: Chain
    continued: bool
    created: int
    base: Base = field(default_factory=Base)
    under: Base | None = None

    @property
    def adapted(self) -> bool:
        """Whether an adapter is trained, and not all weights."""
        return self.continued or bool(self.created)

    @property
    def rounded(self) -> bool:
        """Whether weights of the base are held in fewer bits than those of its files, or of what was merged into it."""
        return self.base.narrows(self.chain.base) or (self.base.dtype == "bfloat16" and bool(self.merged))

    @property
    def merged(self) -> tuple[Adapter, ...]:
        """Adapters that are merged into the weights."""
        return self.chain.adapters[:-1] if self.continued else self.chain.adapters

    def describe(self) -> str:
        """One sentence for a run's banner; "" for a full model as it was given."""
        said = [
            f"the adapter {adapter.path} is merged into {self.chain.base.path}" for adapter in self.merged
        ]
        if self.continued:
            top = self.chain.adapters[-1]
            said.append(f"the adapter {top.path} is trained further (rank {top.rank}, alpha {top.alpha:g})")
        elif said:
            said.append(
                f"a new adapter of rank {self.created} is trained on it"
                if self.created
                else "all weights are trained"
            )
        if not self.base.plain:
            came = "rounded" if self.rounded else "as it came"
            said.append(
                f"the base is frozen and held in {self.base.describe()}, {came}; the adapter is float32"
            )
        return "; ".join(said)


def plan(
    found: Chain, lora: Lora, adapter: str, base: str = "checkpoint", quantization: str = "none"
) -> Start:
    """Decide what becomes of a chain's outermost adapter, and how its base is held.

    adapter    "continue": it is trained further; "merge": it is merged, then all weights or a new adapter are trained;
               "auto": continue, unless LoRA settings are asked for that differ from the adapter's own.
    base, quantization   how the base is held; see `frozen_base.base_of`. The base of a continued adapter is held as it
               was when the adapter was trained, unless these say otherwise.

    Raises ModelError for "continue" with other LoRA settings, or for a choice that does not exist.
    """
    start = _adapters(found, lora, adapter)
    held = base_of(base, quantization, found.base, adapted=start.adapted, merged=bool(start.merged))
    under = read_record(found.adapters[-1].path) if found.adapters else None
    if start.continued and not start.merged and (base, quantization) == ("checkpoint", "none"):
        held = under or held
    return replace(start, base=held, under=under)


def _adapters(found: Chain, lora: Lora, adapter: str) -> Start:
    if adapter not in ADAPTER_CHOICES:
        raise ModelError(f"model.adapter must be one of {', '.join(ADAPTER_CHOICES)}, got {adapter!r}")
    if not found.adapters:
        return Start(found, False, lora.rank)
    different = _differences(found.adapters[-1], lora)
    if adapter == "continue" and different:
        raise ModelError(
            f"{found.top} is an adapter with {'; '.join(different)}; leave these settings out to train it further, or "
            "set model.adapter=merge for a new adapter on the merged model"
        )
    continued = adapter == "continue" or (adapter == "auto" and not different)
    return Start(found, continued, 0 if continued else lora.rank)


def _differences(adapter: Adapter, lora: Lora) -> list[str]:
    own = adapter.settings.get("target_modules")
    targets = sorted(own) if isinstance(own, list) else own
    return [
        f"{name} {mine}, but model.lora_{name}={asked} is asked for"
        for name, mine, asked in (
            ("rank", adapter.rank, lora.rank or None),
            ("alpha", adapter.alpha, lora.alpha),
            ("targets", targets, None if lora.targets is None else sorted(lora.targets)),
        )
        if asked is not None and asked != mine
    ]


def load_model(start: Start, lora: Lora, base_folder: Path | None = None) -> Any:
    """Load a planned start policy on the CPU, every weight of it read from its files and finite.

    Trained weights are fp32; a frozen base is held as `start.base` says.

    base_folder    where the merged model is written, if an adapter is trained on it: its checkpoints name it.

    Raises ModelError for weights that are missing, left over, misshapen, NaN or infinite, and if none would be trained.
    """
    direct = not start.merged  # the base is the full model of the chain
    model = _full(start.chain.base, start.base if direct else Base())
    if not direct and start.under is not None:
        start.under.rounded(model)
    for adapter in start.merged:
        try:
            model = _attached(model, adapter, trained=False).merge_and_unload()
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - PEFT may raise anything
            raise ModelError(f"cannot merge the adapter {adapter.path}: {first_line(error)}") from None
    if not direct and start.adapted:
        if start.base.dtype == "bfloat16":
            hold(model)
        written = _write_base(model, base_folder, start)
        model = _full(inspect(Path(written)), start.base) if start.base.quantization != "none" else model
        model.name_or_path = written
    for parameter in model.parameters():  # PEFT has frozen what it merged into
        parameter.requires_grad_(parameter.is_floating_point())
    if start.continued:
        base = model.name_or_path if start.merged else start.chain.base_name
        with in_float32(model):
            model = _attached(model, start.chain.adapters[-1], trained=True)
        model.active_peft_config.base_model_name_or_path = base
    elif start.created:
        with in_float32(model):
            model = with_lora(model, lora)
    compute_where_trained(model)
    _check_finite(model, start.chain.top)
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError(f"{start.chain.top}: no weight would be trained")
    return model


def with_lora(model: Any, lora: Lora, task: str = "CAUSAL_LM") -> Any:
    """Add a new LoRA adapter for a task of PEFT's: A is drawn at random and B is 0, so that nothing changes yet."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha or 2.0 * lora.rank,  # type: ignore[arg-type]  # peft says int and takes a fraction
        lora_dropout=0.0,
        target_modules=lora.targets or "all-linear",
        task_type=task,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lora.seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise ModelError(f"cannot add a LoRA adapter: {first_line(error)}") from None


def read_model(kind: Any, path: Path, what: str, **how: Any) -> tuple[Any, dict[str, Any]]:
    """A transformers model from a folder's safetensors, without running code of the folder: (model, loading info).

    kind   an Auto class, such as AutoModelForCausalLM; what and how: its name in messages, more for `from_pretrained`

    Weights that the files lack are drawn at random by transformers: look at `missing_keys`. Raises ModelError, in one
    sentence, for a folder that cannot be read.
    """
    try:
        model, info = kind.from_pretrained(
            str(path),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **how,
        )
    except Exception as error:  # noqa: BLE001 - a model class may raise anything
        raise ModelError(f"cannot load {what} from {path}: {first_line(error)}") from None
    return model, info


def _full(folder: ModelFolder, base: Base) -> Any:
    from transformers import AutoModelForCausalLM

    path = folder.path
    shape = described(folder)
    as_stored = base.dtype == "bfloat16" and stored_in_bfloat16(folder)
    dtype = torch.bfloat16 if as_stored else torch.float32
    how = {} if base.quantization == "none" else _quantised(base.quantization, shape)
    model, info = read_model(AutoModelForCausalLM, path, "a causal language model", dtype=dtype, **how)
    if info["missing_keys"]:  # transformers would initialise them at random
        raise ModelError(f"{path} lacks weights of the model: {', '.join(sorted(info['missing_keys'])[:3])}")
    left = sorted(name for name in info["unexpected_keys"] if not _COMPUTED.search(name))
    adapted = [name for name in left if _ADAPTED.search(name)]
    if adapted:
        raise ModelError(f"{path} holds weights of an adapter, which is not merged: {', '.join(adapted[:3])}")
    known = {_pattern(name) for name in model.state_dict()}
    dropped = [name for name in left if _pattern(name) in known]
    if dropped:
        raise ModelError(
            f"{path} holds more layers than its config.json says: {dropped[0]} would be left out"
        )
    if left:
        log.warning(
            "%s holds weights that its model does not have, and that are not used: %s",
            path,
            ", ".join(left[:3]),
        )
    if as_stored:
        exact_buffers(model)
    base.hold(model)
    return model


def _quantised(bits: str, model: Any) -> dict[str, Any]:
    """What `from_pretrained` is given for quantised weights."""
    return {"quantization_config": settings_of(bits, head_name(model))}


def _pattern(name: str) -> str:
    """A weight's name without its layer number."""
    return re.sub(r"\d+", "#", name)


def _attached(model: Any, adapter: Adapter, *, trained: bool) -> Any:
    """The model with an adapter read from its folder, all of whose weights have their place, and no place is empty."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT warns of is checked below, and refused
            wrapped = PeftModel.from_pretrained(model, str(adapter.path), is_trainable=trained)
    except Exception as error:  # noqa: BLE001 - PEFT may raise anything
        raise ModelError(f"cannot load the adapter {adapter.path}: {first_line(error)}") from None
    expected = adapter_weights(wrapped)
    missing, left = sorted(expected.keys() - adapter.tensors), sorted(adapter.tensors.keys() - expected)
    if missing or left:
        what = (
            f"has no weight {missing[0]}" if missing else f"holds {left[0]}, which the model has no place for"
        )
        raise ModelError(
            f"the adapter {adapter.path} does not fit {adapter.settings.get('base_model_name_or_path')}: it {what}"
        )
    return wrapped


def adapter_weights(wrapped: Any, *, base: bool = True) -> dict[str, torch.Tensor]:
    """Weights of a PEFT model's adapter by their names in its files; they share memory with the model's parameters.

    base    include the embeddings of the base model that PEFT stores with an adapter on them.
    """
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights: dict[str, torch.Tensor] = get_peft_model_state_dict(
            wrapped, save_embedding_layers="auto" if base else False
        )
    return weights


def _write_base(model: Any, folder: Path | None, start: Start) -> str:
    """Write the merged model once, so that anybody can load the adapters that are trained on it."""
    if folder is None:
        raise ModelError(
            f"{start.chain.top}: an adapter on a merged model needs a folder for that model (base_folder)"
        )
    if not folder.exists():
        with whole(folder) as draft:
            model.save_pretrained(str(draft), safe_serialization=True)
    return str(folder.resolve())


def _check_finite(model: Any, path: Path) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinite"
            raise ModelError(f"{path}: the weight {name} has {kind} values; the checkpoint is broken")
