"""Activation checkpointing (gradient checkpointing): a transformer block keeps its input alone, and its forward is
computed again in the backward.

Memory of a micro-batch falls from all that L blocks save to L inputs and what one block saves; a step costs one more
forward. Gradients have the same bits, since the same operations run on the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from equipoise.models.errors import ModelError


def blocks_of(backbone: Any, needing: str = "train.activation_checkpointing") -> list[nn.Module]:
    """A backbone's transformer blocks: the list of modules that is as long as its configuration says.

    Raises ModelError where there is none, which names the setting that needs them.
    """
    count = getattr(backbone.config.get_text_config(), "num_hidden_layers", None)
    lists = [m for m in backbone.children() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise ModelError(f"{type(backbone).__name__} has no list of {count} blocks: leave {needing} out")
    return list(lists[0])


@contextmanager
def checkpointed(
    blocks: Sequence[nn.Module], again: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Iterator[None]:
    """Context manager: blocks temporarily keep their inputs alone.

    again    what their forward stands in when it is computed again, after this context has ended.
    """
    with ExitStack() as stack:
        for block in blocks:
            # an attribute of the object, before the method of its class
            block.forward = partial(_kept, partial(block.forward), again)
            stack.callback(delattr, block, "forward")
        yield


def _kept(
    forward: Callable[..., Any], again: Callable[[], AbstractContextManager[Any]], *inputs: Any, **others: Any
) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **others)
    return checkpoint(
        partial(forward, **others),
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing is drawn: dropout is off
        context_fn=lambda: (nullcontext(), again()),
    )
