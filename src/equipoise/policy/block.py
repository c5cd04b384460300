"""The last layer computes what is looked at: its MLP sees only the states that predict scored tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

PARTS = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}


def prunable(backbone: nn.Module) -> bool:
    """Whether the model's layers look like attention, then an MLP, each on a norm of what it adds to (Llama, Qwen 2 and
    3, Mistral, Gemma 1). Looks only: the probe compares states."""
    layers = getattr(backbone, "layers", None)
    return bool(layers) and {name for name, _ in layers[-1].named_children()} == PARTS


@contextmanager
def pruned(backbone: Any, kept: Tensor) -> Iterator[None]:
    """The backbone's states are those of the places `kept` [M'] of its one row, for a while: [1, M', D]."""
    layer = backbone.layers[-1]

    def forward(hidden_states: Tensor, **others: Any) -> Tensor:
        read = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **others)[0]
        states = hidden_states[:, kept] + read[:, kept]
        found: Tensor = states + layer.mlp(layer.post_attention_layernorm(states))
        return found

    layer.forward = forward  # an attribute of the object, before the method of its class
    try:
        yield
    finally:
        del layer.forward
