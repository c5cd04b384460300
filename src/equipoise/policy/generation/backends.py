"""Which way a model continues prompts: shared where it agrees with plain passes, without the model's modules where they
have the common shape; else padded."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from equipoise.data.collate import Ids
from equipoise.policy.generation import cpu_decoder as direct
from equipoise.policy.generation.cpu_decoder import CpuPrompts
from equipoise.policy.generation.padded import PaddedDecoder
from equipoise.policy.generation.prefix_cache import SharedPrefixCache, windows_of
from equipoise.policy.generation.scheduler import Scheduler

log = logging.getLogger(__name__)

Way = type[SharedPrefixCache] | type[PaddedDecoder]
_known: WeakKeyDictionary[nn.Module, Way] = WeakKeyDictionary()


def way_of(model: Any) -> Way:
    """The cheapest way that passes the probe, which is made once for each model."""
    if model not in _known:
        why = reason_against(model)
        if why:
            log.warning("prompts are repeated for every sample, which is slower: %s", why)
            _known[model] = PaddedDecoder
        else:
            _known[model] = SharedPrefixCache if reason_against_direct(model) else CpuPrompts
    return _known[model]


@torch.no_grad()
def reason_against(model: Any) -> str | None:
    """Why the model's prompts cannot be shared, or None: decided by a tiny example and by its layers' kinds."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    if set(kinds) - {"full_attention", "sliding_attention"}:
        return f"its layers are {', '.join(sorted(set(kinds)))}"
    if not hasattr(model.config, "_attn_implementation"):
        return "its attention cannot be exchanged"
    try:
        off, told = _probe(model, SharedPrefixCache)
    except Exception as error:  # whatever a foreign model raises, the other way is open
        return f"its attention does not take them ({type(error).__name__}: {error})"
    # a window longer than the example would not show in the numbers
    for layer, window in enumerate(windows_of(model)):
        if window is not None and told.get(layer) != window:
            return f"layer {layer} has a window that its attention is not told"
    return _too_large(off, model.dtype)


@torch.no_grad()
def reason_against_direct(model: Any) -> str | None:
    """The same for reading its weights without its modules."""
    why = direct.reason_against(model)
    if why:
        return why
    try:
        return _too_large(_probe(model, CpuPrompts)[0], model.dtype)
    except Exception as error:  # as above
        return f"{type(error).__name__}: {error}"


def _too_large(off: float, dtype: torch.dtype) -> str | None:
    allowed = 1e3 * torch.finfo(dtype).eps if dtype == torch.float32 else 0.1
    return f"the tiny example differs by {off:.1e}" if not off <= allowed else None


def _probe(model: Any, way: type[SharedPrefixCache]) -> tuple[float, dict[int, int | None]]:
    """How far logits of two prompts' samples after three steps each are from those of plain passes, as a share of the
    largest; and the windows that the attention was told."""
    words = model.config.get_text_config().vocab_size
    prompts: list[Ids] = [tuple(np.arange(2, 7) % words), tuple(np.arange(3, 5) % words)]
    flight = Scheduler(
        prompts,
        2,
        groups=2,
        room=[3, 3],
        stops=[],
        uniforms=lambda place, sample, count: np.zeros(count),
        places=[0, 1],
        refills=True,
    )
    reader = way(model, 2, 2, 4, 3)
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
    found, wanted = torch.stack(logits, 1).float(), torch.stack(plain).float()
    return float((found - wanted).abs().max() / wanted.abs().max()), reader.cache.windows
