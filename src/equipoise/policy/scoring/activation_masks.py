"""Activation masks (MaPO): how strongly a frozen model activates where it predicts each token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from equipoise.core.logprob import by_response, scored_positions
from equipoise.data.collate import TokenBatch
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import backbone

# names of a decoder block's parts in transformers' model families
MLPS, ATTENTIONS = ("mlp", "feed_forward", "ffn"), ("self_attn", "attn", "attention", "self_attention")
MIN_RANGE = 1e-12  # where all tokens have equal activations the mask is 0, not 0/0


@torch.no_grad()
def activation_mask(
    policy: CausalPolicy, batch: TokenBatch
) -> tuple[Float[Tensor, "R T"], Bool[Tensor, "R T"]]:
    """Activation masks: ([R, T] values in [0, 1] for the responses' tokens, [R, T] True where there is one), detached.

        m_k = mean over kinds of ( mean over layers of rescale( mean over width of a_k ) )

    a_k       output of an MLP, an attention or a whole block (the residual stream) where token k is predicted.
    rescale   min-max to [0, 1] over the tokens of a response; see `minmax_rescaled`.

    The authors normalise to mean 0 and deviation 1 over the response before they rescale, which rescaling undoes. A
    response of one token, or with equal activations at every token, has mask 0. Raises ModelError if the model's
    blocks, MLPs or attentions cannot be found.

    Source: Christopoulou et al. 2024 (2410.05102), MaPO, checked against the authors' code.
    """
    on_device = batch.to(policy.device)
    where = scored_positions(on_device.scored)
    with _recorded(policy) as kinds, policy.scorer.autocast(policy.device):
        backbone(policy.model)(input_ids=on_device.ids, attention_mask=on_device.attention, use_cache=False)
        activations = [
            [
                by_response(a[where.row, where.predictor].float().mean(dim=1), where.row, len(batch.ids))
                for a in parts
            ]
            for parts in kinds.values()
        ]
    mask = activations[0][0][1]
    by_kind = [torch.stack([minmax_rescaled(a, mask) for a, _ in parts]).mean(dim=0) for parts in activations]
    return torch.stack(by_kind).mean(dim=0), mask


def minmax_rescaled(values: Float[Tensor, "R T"], mask: Bool[Tensor, "R T"]) -> Float[Tensor, "R T"]:
    """Min-max rescaling of each row over its mask: the smallest value becomes 0, the largest 1; 0 off the mask."""
    low = values.masked_fill(~mask, torch.inf).amin(dim=1, keepdim=True)
    high = values.masked_fill(~mask, -torch.inf).amax(dim=1, keepdim=True)
    return ((values - low) / (high - low).clamp(min=MIN_RANGE)).where(mask, 0)


@contextmanager
def _recorded(policy: CausalPolicy) -> Iterator[dict[str, list[Tensor]]]:
    """Context manager: records outputs of every block's parts in forward passes, by kind, in the order of layers."""
    blocks = _blocks(policy)
    recorded: dict[str, list[Tensor]] = {"mlp": [], "attention": [], "residual": []}

    def keep(kind: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, out: Any) -> None:
            recorded[kind].append(out[0] if isinstance(out, tuple) else out)

        return hook

    parts = [("residual", block) for block in blocks]
    parts += [("mlp", _part(block, MLPS)) for block in blocks]
    parts += [("attention", _part(block, ATTENTIONS)) for block in blocks]
    handles = [module.register_forward_hook(keep(kind)) for kind, module in parts]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _blocks(policy: CausalPolicy) -> list[nn.Module]:
    """Decoder blocks: the model's longest ModuleList of modules of one type."""
    lists = [m for m in backbone(policy.model).modules() if isinstance(m, nn.ModuleList)]
    uniform = [list(m) for m in lists if len({type(block) for block in m}) == 1]
    if not uniform:
        raise ModelError("the model's blocks cannot be found: its activations cannot be read")
    return max(uniform, key=len)


def _part(block: nn.Module, names: tuple[str, ...]) -> nn.Module:
    part = next((getattr(block, name) for name in names if hasattr(block, name)), None)
    if not isinstance(part, nn.Module):
        raise ModelError(
            f"{type(block).__name__} has none of {', '.join(names)}: its activations cannot be read"
        )
    return part
