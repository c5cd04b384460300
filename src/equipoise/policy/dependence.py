"""Which tokens a state reads, by gradients: where it does not read a token its gradient is exactly 0.

Small weights hide a leak from a comparison of values; they do not hide it from a gradient, which is 0 only where no
path leads from the token to the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.data.pack import Tree


def tokens_read(model: Any, state: Callable[[], Tensor]) -> Tensor | None:
    """Positions that a state reads: a mask [T] over the tokens of the one row that `state` runs the model on.

    state    runs the model and returns one hidden state [D].

    None if the model does not read its tokens through its embedding.
    """
    embedded: list[Tensor] = []

    def follow(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1].clone()  # some models scale it in place

    hook = model.get_input_embeddings().register_forward_hook(follow)
    try:
        with torch.enable_grad():
            value = state().float()
            slope = torch.linspace(0.5, 1.5, value.numel(), device=value.device)
            if len(embedded) != 1 or not value.requires_grad:
                return None
            (gradient,) = torch.autograd.grad((slope * value).sum(), embedded, allow_unused=True)
    finally:
        hook.remove()
    return None if gradient is None else (gradient[0] != 0).any(dim=-1)


def readable(tree: Tree, place: int) -> Tensor:
    """Positions of a packed row that the token at a place may read: its prompt and its own branch, up to itself."""
    begin = 0
    allowed = torch.zeros(sum(prompt + sum(branches) for prompt, branches in tree), dtype=torch.bool)
    for prompt, branches in tree:
        end = begin + prompt
        for at, length in ((begin, prompt), *_spans(end, branches)):
            if at <= place < at + length:
                allowed[begin : min(end, place + 1)] = True
                allowed[at : place + 1] = True
        begin = end + sum(branches)
    return allowed


def reads_ahead(model: Any, backbone: Any) -> bool:
    """Whether a state depends on later tokens: the model is no causal language model, whatever its name."""
    weight = model.get_input_embeddings().weight
    ids = torch.arange(1, 9, device=weight.device).remainder(weight.shape[0])[None]
    read = tokens_read(model, lambda: backbone(input_ids=ids, use_cache=False).last_hidden_state[0, 3])
    return read is not None and bool(read[4:].any())


def _spans(begin: int, lengths: tuple[int, ...]) -> list[tuple[int, int]]:
    spans = []
    for length in lengths:
        spans.append((begin, length))
        begin += length
    return spans
