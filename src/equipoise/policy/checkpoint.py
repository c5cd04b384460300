"""Checkpoints: Hugging Face folders (safetensors only), written atomically, read into the one model in memory."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from equipoise.policy import digests, lora
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.digests import write_sums
from equipoise.policy.files import MOMENTS, read_about, read_tensors, whole, write_tensors
from equipoise.policy.held_weights.frozen_base import write_record
from equipoise.policy.model_card import write_card
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import causal_lm, held_values
from equipoise.policy.sharding.shard_files import read_own, write_gathered
from equipoise.policy.stored_weights import stored_weights

FINGERPRINT = "fingerprint.txt"
# of an auxiliary head; sampling does not read it
NETWORK = Path("network") / "weights.safetensors"


def save(policy: CausalPolicy, folder: Path, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Save a checkpoint as a Hugging Face folder: weights (or adapter), configuration and tokenizer.

    Also written: a model card; SHA-256 sums of all files; the policy's fingerprint, so that anchors can be looked up
    without loading it; the weights of its auxiliary head, if it has one; the optimizer's state, if an optimizer is
    given, for a fit that continues from here.
    Raises ModelError if transformers wrote a pickled file.
    """
    with whole(folder) as draft:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # PEFT says that it looks for the base, and that it stores embeddings
            policy.model.save_pretrained(str(draft), safe_serialization=True)
        policy.tokenizer.save_pretrained(str(draft))
        adapter = hasattr(policy.model, "peft_config")
        base = None if policy.start is None else str(policy.start.chain.base.path)
        write_card(draft, policy.about, base, adapter=adapter)
        (draft / FINGERPRINT).write_text(fingerprint(policy), encoding="utf-8")
        if adapter and policy.start is not None and policy.start.rounded:
            write_record(draft, policy.start.base)
        if policy.network is not None:
            write_tensors(draft / NETWORK, policy.network.state_dict())
        if optimizer is not None:
            write_gathered(draft / MOMENTS, _moments(policy, optimizer))
        foreign = [f.name for f in draft.iterdir() if f.suffix in (".bin", ".pt", ".pth", ".pkl")]
        if foreign:
            raise ModelError(f"refusing a checkpoint with pickled files: {', '.join(foreign)}")
        write_sums(draft)


def give_moments(policy: CausalPolicy, optimizer: torch.optim.Optimizer) -> None:
    """Give another process, which calls `save`, this one's share of an optimizer's state, if that is divided."""
    write_gathered(None, _moments(policy, optimizer))


def load_into(policy: CausalPolicy, folder: Path) -> None:
    """Load a checkpoint's weights into the policy's trainable parameters; all of these must be there.

    Raises ModelError naming the first weight that is missing or of another shape, or a file that has changed since it
    was written.
    """
    verify(folder)
    stored = stored_weights(policy, folder)
    with torch.no_grad():
        for name, parameter in policy.parameters():
            parameter.copy_(stored[name])


def stored_fingerprint(folder: Path) -> str:
    """The fingerprint of the policy that a checkpoint holds, as it was written with it."""
    return (folder / FINGERPRINT).read_text(encoding="utf-8")


def verify(folder: Path) -> None:
    """Check that no file of a checkpoint has changed since it was saved. Raises ModelError naming one that has."""
    digests.verify(folder, may_lack=(MOMENTS,))


def load_network(network: nn.Module, folder: Path) -> bool:
    """Load an auxiliary head's weights from a checkpoint; False if it has none.

    Raises ModelError if they belong to another network.
    """
    if not (folder / NETWORK).exists():
        return False
    try:
        network.load_state_dict(read_tensors(folder / NETWORK)[0])
    except RuntimeError as error:
        raise ModelError(f"{folder / NETWORK} holds another network: {error}") from error
    return True


def network_digest(folder: Path) -> str:
    """Hash of the auxiliary head saved with a checkpoint; "" if it has none."""
    file = folder / NETWORK
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32] if file.exists() else ""


@contextmanager
def temporary_weights(policy: CausalPolicy, folder: Path, current: Path) -> Iterator[None]:
    """Temporarily load a checkpoint's weights (context manager): one model in memory, two in turn.

    current    the checkpoint of the weights in memory, which are restored from it at the end, also after an error.
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
    """Hash of everything the policy's log-probs depend on except kernels: weights, architecture, precision, head.

    Frozen weights that are held in bf16 or quantised count by their values in fp32, in which they compute.
    """
    held = held_values(policy.model)
    about = [policy.precision, policy.scorer.linear_head, _settings(policy)]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, parameter in sorted(policy.model.named_parameters()):
        digest.update(name.encode())
        values = held[id(parameter)]() if id(parameter) in held else parameter.detach()
        digest.update(values.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def save_progress(
    path: Path | None, policy: CausalPolicy, optimizer: torch.optim.Optimizer, about: Mapping[str, Any]
) -> None:
    """Save the state of an unfinished fit in one file: trainable weights, optimizer state and `about`.

    path    None in all processes but the one that writes; these give their shares of what is divided.
    """
    for shard in policy.shards:
        shard.settle()
    weights = {f"weight/{name}": p for name, p in policy.trained()}
    write_gathered(path, weights | _moments(policy, optimizer), about=json.dumps(dict(about)))


def load_progress(path: Path, policy: CausalPolicy, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load the state of an unfinished fit, the inverse of `save_progress`; returns `about`."""
    tensors, metadata = read_own(path, dict(policy.trained()))
    with torch.no_grad():
        for name, parameter in policy.trained():
            parameter.copy_(tensors.pop(f"weight/{name}"))
    _load_moments(tensors, policy, optimizer)
    return json.loads(metadata["about"])


def load_moments(folder: Path, policy: CausalPolicy, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer's state from a checkpoint; without one the optimizer is left as it is."""
    if (folder / MOMENTS).exists():
        _load_moments(read_own(folder / MOMENTS, dict(policy.trained()))[0], policy, optimizer)


def combine(policy: CausalPolicy, weights: Sequence[tuple[Path, float]], *, products: bool = False) -> None:
    """Combine checkpoints linearly: trainable weights become sum_k w_k theta_k, accumulated in float64.

    products    for LoRA adapters, combine the products B A, which are added to the weights, as well as the rank allows
                (see `policy.lora`); False: combine the factors.
    """
    for folder, _ in weights:
        verify(folder)
    stored = [(weight, stored_weights(policy, folder)) for folder, weight in weights if weight]

    def parts(name: str) -> list[tuple[float, Tensor]]:
        return [(weight, tensors[name].double()) for weight, tensors in stored]

    trained = dict(policy.parameters())
    with torch.no_grad():
        for name, parameter in trained.items():
            other = lora.partner(name) if products and len(stored) > 1 else None
            if other is None:
                parameter.copy_(torch.stack([weight * value for weight, value in parts(name)]).sum(dim=0))
            elif lora.is_factor_a(name):
                first, second = lora.nearest_factors(parts(name), parts(other))
                parameter.copy_(first)
                trained[other].copy_(second)


def _moments(policy: CausalPolicy, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = [name for name, _ in policy.trained()]
    moments = {
        f"{key}/{names[index]}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in _entries(state)
    }
    once: dict[int, str] = {}  # safetensors stores no tensor twice, and 8-bit moments share their code
    for name, tensor in moments.items():
        if not isinstance(tensor, DTensor) and once.setdefault(tensor.data_ptr(), name) != name:
            moments[name] = tensor.clone()
    return moments


def _entries(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """An optimizer's state of one weight: numbers and tensors, also those that bitsandbytes nests."""
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from value.items()
        elif value is not None:
            yield key, value


def _load_moments(
    tensors: Mapping[str, Tensor], policy: CausalPolicy, optimizer: torch.optim.Optimizer
) -> None:
    state: dict[int, dict[str, Any]] = {}
    for index, (name, _) in enumerate(policy.trained()):
        moments: dict[str, Any] = {
            key.split("/", 1)[0]: v.item() if v.ndim == 0 and not v.is_floating_point() else v
            for key, v in tensors.items()
            if key.split("/", 1)[1] == name
        }
        if moments:
            state[index] = moments
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def progress_of(path: Path) -> dict[str, Any]:
    """Metadata of a saved unfinished fit: its round, step and name."""
    return json.loads(read_about(path)["about"])


def _settings(policy: CausalPolicy) -> dict[str, Any]:
    """Settings that the weights do not contain: the architecture's (RoPE base, caps), and LoRA's rank and scale."""
    settings = causal_lm(policy.model).config.to_dict()
    volatile = ("_name_or_path", "transformers_version", "dtype")
    adapters = getattr(policy.model, "peft_config", {})
    return {k: v for k, v in settings.items() if k not in volatile} | {
        f"lora {name}": [adapter.r, adapter.lora_alpha, *_scaling(adapter)]
        for name, adapter in adapters.items()
    }


def _scaling(adapter: Any) -> list[Any]:
    """What else scales an adapter, where it is set: PEFT's rank-stabilised scale, and settings of single layers."""
    names = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
    return [{name: getattr(adapter, name)} for name in names if getattr(adapter, name, None)]
