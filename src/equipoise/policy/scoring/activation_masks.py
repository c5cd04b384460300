"""How strongly a frozen model reacts where it writes each token: MaPO's masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from equipoise.core.logprob import by_response, scored_positions
from equipoise.data.collate import TokenBatch
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import backbone

# what a decoder block calls its parts, in the model families that transformers has
MLPS, ATTENTIONS = ("mlp", "feed_forward", "ffn"), ("self_attn", "attn", "attention", "self_attention")
LEAST = 1e-12  # of a range: where every token reacts alike the mask is 0, not 0/0


@torch.no_grad()
def activation_mask(
    policy: CausalPolicy, batch: TokenBatch
) -> tuple[Float[Tensor, "R T"], Bool[Tensor, "R T"]]:
    """([R, T] masks in [0, 1] of the responses' tokens, [R, T] True where there is one), constant.

        m = mean over kinds of ( mean over layers of rescale( mean over width of a_k ) )

    a_k       what an MLP, an attention or a whole block (the residual stream) puts out where token k is predicted.
    rescale   to [0, 1] over the tokens of a response, least to largest.

    The authors normalise to mean 0 and deviation 1 over the response before they rescale, which rescaling undoes.
    A response of one token, or one to which a part reacts alike everywhere, has 0 there. Raises ModelError where the
    model's blocks, MLPs or attentions cannot be found.

    Source: Christopoulou et al. 2024 (2410.05102), MaPO, checked against the authors' code.
    """
    on_device = batch.to(policy.device)
    where = scored_positions(on_device.scored)
    with _recorded(policy) as kinds, policy.scorer.autocast(policy.device):
        backbone(policy.model)(input_ids=on_device.ids, attention_mask=on_device.attention, use_cache=False)
        laid = [
            [
                by_response(a[where.row, where.predictor].float().mean(dim=1), where.row, len(batch.ids))
                for a in parts
            ]
            for parts in kinds.values()
        ]
    mask = laid[0][0][1]
    kept = [torch.stack([rescaled(a, mask) for a, _ in parts]).mean(dim=0) for parts in laid]
    return torch.stack(kept).mean(dim=0), mask


def rescaled(values: Float[Tensor, "R T"], mask: Bool[Tensor, "R T"]) -> Float[Tensor, "R T"]:
    """Each row's values from 0, the least, to 1, the largest, over the places of the mask; 0 elsewhere."""
    low = values.masked_fill(~mask, torch.inf).amin(dim=1, keepdim=True)
    high = values.masked_fill(~mask, -torch.inf).amax(dim=1, keepdim=True)
    return ((values - low) / (high - low).clamp(min=LEAST)).where(mask, 0)


@contextmanager
def _recorded(policy: CausalPolicy) -> Iterator[dict[str, list[Tensor]]]:
    """What the parts of every block put out in the forward passes inside, by kind, in the order of the layers."""
    blocks = _blocks(policy)
    found: dict[str, list[Tensor]] = {"mlp": [], "attention": [], "residual": []}

    def keep(kind: str) -> object:
        def hook(_module: nn.Module, _inputs: object, out: object) -> None:
            found[kind].append(out[0] if isinstance(out, tuple) else out)  # type: ignore[arg-type]

        return hook

    parts = [("residual", block) for block in blocks]
    parts += [("mlp", _part(block, MLPS)) for block in blocks]
    parts += [("attention", _part(block, ATTENTIONS)) for block in blocks]
    handles = [module.register_forward_hook(keep(kind)) for kind, module in parts]  # type: ignore[arg-type]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _blocks(policy: CausalPolicy) -> list[nn.Module]:
    """The decoder's blocks: the model's longest list of modules of one type."""
    lists = [m for m in backbone(policy.model).modules() if isinstance(m, nn.ModuleList)]
    alike = [m for m in lists if len(m) and len({type(block) for block in m}) == 1]
    if not alike:
        raise ModelError("the model's blocks cannot be found: its activations cannot be read")
    return list(max(alike, key=len))


def _part(block: nn.Module, names: tuple[str, ...]) -> nn.Module:
    found = next((getattr(block, name) for name in names if hasattr(block, name)), None)
    if not isinstance(found, nn.Module):
        raise ModelError(
            f"{type(block).__name__} has none of {', '.join(names)}: its activations cannot be read"
        )
    return found
