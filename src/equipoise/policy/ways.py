"""Which way a model continues prompts: shared where it agrees with plain passes, else padded."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.data.collate import Ids
from equipoise.policy.cache import SharedPrompts
from equipoise.policy.flight import Flight
from equipoise.policy.padded import PaddedPrompts

log = logging.getLogger(__name__)

Way = type[SharedPrompts] | type[PaddedPrompts]
_known: WeakKeyDictionary[nn.Module, Way] = WeakKeyDictionary()


def way_of(model: Any) -> Way:
    """`SharedPrompts` for a model that passes the probe, which is made once."""
    if model not in _known:
        why = reason_against(model)
        if why:
            log.warning("prompts are repeated for every sample, which is slower: %s", why)
        _known[model] = PaddedPrompts if why else SharedPrompts
    return _known[model]


@torch.no_grad()
def reason_against(model: Any) -> str | None:
    """Why the model's prompts cannot be shared, or None: decided by a tiny example and by its layers' kinds."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kind = "sliding_attention" if window else "full_attention"
    kinds = getattr(config, "layer_types", None) or [kind] * config.num_hidden_layers
    if set(kinds) - {"full_attention", "sliding_attention"}:
        return f"its layers are {', '.join(sorted(set(kinds)))}"
    if not hasattr(model.config, "_attn_implementation"):
        return "its attention cannot be exchanged"
    try:
        shared, plain, windows = _probe(model, config.vocab_size)
    except Exception as error:  # whatever a foreign model raises, the other way is open
        return f"its attention does not take them ({type(error).__name__}: {error})"
    # a window longer than the example would not show in the numbers
    for layer, kind in enumerate(kinds):
        if kind == "sliding_attention" and windows.get(layer) != window:
            return f"layer {layer} has a window that its attention is not told"
    error = float((shared - plain).abs().max() / plain.abs().max())
    allowed = 1e3 * torch.finfo(model.dtype).eps if model.dtype == torch.float32 else 0.1
    return f"the tiny example differs by {error:.1e}" if not error <= allowed else None


def _probe(model: Any, words: int) -> tuple[Tensor, Tensor, dict[int, int | None]]:
    """Logits of two prompts' samples after three steps each, with shared prompts and in plain passes."""
    prompts: list[Ids] = [tuple(np.arange(2, 7) % words), tuple(np.arange(3, 5) % words)]
    flight = Flight(
        prompts,
        2,
        groups=2,
        room=[3, 3],
        stops=[],
        uniforms=lambda place, sample, count: np.zeros(count),
        places=[0, 1],
        refills=True,
    )
    reader = SharedPrompts(model, 2, 2, 4, 3)
    reader.enter(flight.enter(), flight.held([0, 1]))
    logits = []
    while flight.unfinished:
        logits.append(reader.next(flight.step(model.device)))
        flight.record(np.arange(1, 5) % words, np.zeros(4))
    plain = [
        model(input_ids=torch.tensor([[*prompt, *row]], device=model.device), use_cache=False).logits[0, -3:]
        for prompt, group in zip(prompts, flight.ids[:, :, :2], strict=True)
        for row in group.tolist()
    ]
    return torch.stack(logits, 1).float(), torch.stack(plain).float(), reader.cache.windows
