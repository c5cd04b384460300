"""Checkpoints: Hugging Face folders (safetensors only), written whole, read back into the one model in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.policy import lora
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_about, read_tensors, whole, write_tensors
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import causal_lm

FINGERPRINT = "fingerprint.txt"
MOMENTS = "optimizer.moments"  # not *.safetensors: those are weights
NETWORK = (
    Path("network") / "weights.safetensors"
)  # of a network beside the policy; nobody who samples reads it


def save(policy: CausalPolicy, folder: Path, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Write the policy as a Hugging Face folder: weights (or adapter), configuration and tokenizer.

    The policy's fingerprint stands beside them, so that anchors can be looked up without loading it; the weights of a
    network that was trained beside it; and the optimizer's state, if one is given, for a fit that goes on from there.
    """
    with whole(folder) as draft:
        policy.model.save_pretrained(str(draft), safe_serialization=True)
        policy.tokenizer.save_pretrained(str(draft))
        (draft / FINGERPRINT).write_text(fingerprint(policy), encoding="utf-8")
        if policy.network is not None:
            write_tensors(draft / NETWORK, policy.network.state_dict())
        if optimizer is not None:
            write_tensors(draft / MOMENTS, _moments(policy, optimizer))
        foreign = [f.name for f in draft.iterdir() if f.suffix in (".bin", ".pt", ".pth", ".pkl")]
        if foreign:
            raise ModelError(f"refusing a checkpoint with pickled files: {', '.join(foreign)}")


def load_into(policy: CausalPolicy, folder: Path) -> None:
    """Overwrite the policy's trained weights with a checkpoint's; everything trained must be found there.

    Raises ModelError naming the first weight that is missing or of another shape.
    """
    stored = _stored(policy, folder)
    with torch.no_grad():
        for name, parameter in policy.parameters():
            value = stored.get(_stored_name(name))
            if value is None or value.shape != parameter.shape:
                what = "missing" if value is None else f"of shape {tuple(value.shape)}"
                raise ModelError(f"{folder}: weight {name} is {what}; the model has {tuple(parameter.shape)}")
            parameter.copy_(value)


def load_network(network: nn.Module, folder: Path) -> bool:
    """Overwrite a network's weights with those beside a checkpoint; False where there are none.

    Raises ModelError where they are those of another network.
    """
    if not (folder / NETWORK).exists():
        return False
    try:
        network.load_state_dict(read_tensors(folder / NETWORK)[0])
    except RuntimeError as error:
        raise ModelError(f"{folder / NETWORK} holds another network: {error}") from error
    return True


@contextmanager
def weights_of(policy: CausalPolicy, folder: Path, current: Path) -> Iterator[None]:
    """The policy with another checkpoint's weights, for a while: one model in memory, two in turn.

    `current` is the checkpoint of the weights it holds now, from which they come back.
    """
    if folder == current:
        yield
        return
    load_into(policy, folder)
    try:
        yield
    finally:
        load_into(policy, current)


def fingerprint(policy: CausalPolicy) -> str:
    """A hash of what the policy's log-probs depend on but kernels: weights, architecture, precision, head."""
    about = [policy.precision, policy.scorer.linear_head, _settings(policy)]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, parameter in sorted(policy.model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def save_progress(
    path: Path, policy: CausalPolicy, optimizer: torch.optim.Optimizer, about: Mapping[str, int | str]
) -> None:
    """Weights and optimizer state in the middle of a fit, one file."""
    weights = {f"weight/{name}": p for name, p in policy.trained()}
    write_tensors(path, weights | _moments(policy, optimizer), about=json.dumps(dict(about)))


def load_progress(path: Path, policy: CausalPolicy, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The inverse of `save_progress`; returns `about`."""
    tensors, metadata = read_tensors(path)
    with torch.no_grad():
        for name, parameter in policy.trained():
            parameter.copy_(tensors.pop(f"weight/{name}"))
    _take_moments(tensors, policy, optimizer)
    return json.loads(metadata["about"])


def load_moments(folder: Path, policy: CausalPolicy, optimizer: torch.optim.Optimizer) -> None:
    """The optimizer's state from beside a checkpoint; where there is none the optimizer stays new."""
    if (folder / MOMENTS).exists():
        _take_moments(read_tensors(folder / MOMENTS)[0], policy, optimizer)


def combine(policy: CausalPolicy, weights: Sequence[tuple[Path, float]], *, products: bool = False) -> None:
    """Overwrite the trained weights with sum_k w_k theta_k over checkpoints, added up in float64.

    products    of LoRA adapters combine the products B A, which are what they add to the weights, as well as their
                rank allows (see `policy.lora`); otherwise the factors.
    """
    stored = [(weight, _stored(policy, folder)) for folder, weight in weights if weight]

    def parts(name: str) -> list[tuple[float, Tensor]]:
        return [(weight, tensors[_stored_name(name)].double()) for weight, tensors in stored]

    trained = dict(policy.parameters())
    with torch.no_grad():
        for name, parameter in trained.items():
            other = lora.partner(name) if products and len(stored) > 1 else None
            if other is None:
                parameter.copy_(torch.stack([weight * value for weight, value in parts(name)]).sum(dim=0))
            elif lora.is_first(name):
                first, second = lora.nearest(parts(name), parts(other))
                parameter.copy_(first)
                trained[other].copy_(second)


def _moments(policy: CausalPolicy, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = [name for name, _ in policy.trained()]
    return {
        f"{key}/{names[index]}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def _take_moments(
    tensors: Mapping[str, Tensor], policy: CausalPolicy, optimizer: torch.optim.Optimizer
) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for index, (name, _) in enumerate(policy.trained()):
        found = {key.split("/", 1)[0]: v for key, v in tensors.items() if key.split("/", 1)[1] == name}
        if found:
            state[index] = found
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def progress_of(path: Path) -> dict[str, Any]:
    """The round, step and fit that a saved position belongs to."""
    return json.loads(read_about(path)["about"])


def _settings(policy: CausalPolicy) -> dict[str, Any]:
    """What the weights do not say: the architecture's settings (RoPE base, caps), and LoRA's rank and scale."""
    settings = causal_lm(policy.model).config.to_dict()
    volatile = ("_name_or_path", "transformers_version", "dtype")
    adapters = getattr(policy.model, "peft_config", {})
    return {k: v for k, v in settings.items() if k not in volatile} | {
        f"lora {name}": [adapter.r, adapter.lora_alpha] for name, adapter in adapters.items()
    }


def _stored(policy: CausalPolicy, folder: Path) -> dict[str, Tensor]:
    """The weights in a folder, by the names in its files and by those that transformers gives them on loading."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no .safetensors file")
    stored = {name: value for file in files for name, value in read_tensors(file)[0].items()}
    changes = get_model_conversion_mapping(causal_lm(policy.model))
    renamings = [change for change in changes if isinstance(change, WeightRenaming)]

    def renamed(name: str) -> str:
        for renaming in renamings:
            name = renaming.rename_source_key(name)[0]
        return name

    return {renamed(name): value for name, value in stored.items()} | stored


def _stored_name(name: str) -> str:
    """PEFT stores adapters without the adapter's own name ("default")."""
    return name.removesuffix(".default").replace(".default.", ".") if ".lora_" in name else name
