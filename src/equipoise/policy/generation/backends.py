"""Chooses and probes a decoding backend: prefix sharing where it agrees with plain passes, else padded rows.

Prefix sharing runs on packed weights (`cpu_decoder`) where the model has the common structure and is on a CPU.
"""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.data.collate import Ids
from equipoise.policy.generation import cpu_decoder
from equipoise.policy.generation.cpu_decoder import CpuPrefixCache
from equipoise.policy.generation.padded import PaddedDecoder
from equipoise.policy.generation.prefix_cache import SharedPrefixCache, windows_of
from equipoise.policy.generation.scheduler import Scheduler
from equipoise.policy.rounding import disagreement
from equipoise.policy.scorer import states_dtype

log = logging.getLogger(__name__)

Backend = type[SharedPrefixCache] | type[CpuPrefixCache] | type[PaddedDecoder]
_chosen: WeakKeyDictionary[nn.Module, Backend] = WeakKeyDictionary()


def choose_backend(model: Any) -> Backend:
    """The fastest decoding backend that passes the probe, which is made once for each model."""
    if model not in _chosen:
        why = why_not_shared(model)
        if why:
            log.warning("prompts are repeated for every sample, which is slower: %s", why)
            _chosen[model] = PaddedDecoder
        else:
            _chosen[model] = SharedPrefixCache if why_not_cpu_decoder(model) else CpuPrefixCache
    return _chosen[model]


@torch.no_grad()
def why_not_shared(model: Any) -> str | None:
    """Why prefix sharing is ruled out for the model, or None: by the kinds of its layers and a tiny probe."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    if set(kinds) - {"full_attention", "sliding_attention"}:
        return f"its layers are {', '.join(sorted(set(kinds)))}"
    if not hasattr(model.config, "_attn_implementation"):
        return "its attention cannot be exchanged"
    try:
        differs, windows = _probe(model, SharedPrefixCache)
    except Exception as raised:  # noqa: BLE001 - a foreign model may raise anything; the padded backend remains
        return f"its attention cannot share prompts ({type(raised).__name__}: {raised})"
    # a window longer than the probe would not show in the numbers
    for layer, window in enumerate(windows_of(model)):
        if window is not None and windows.get(layer) != window:
            return f"layer {layer} has a window that is not passed to its attention"
    return differs


@torch.no_grad()
def why_not_cpu_decoder(model: Any) -> str | None:
    """Why decoding on packed CPU weights is ruled out for the model, or None: by its structure and a tiny probe."""
    why = cpu_decoder.why_unsupported(model)
    if why:
        return why
    try:
        return _probe(model, CpuPrefixCache)[0]
    except Exception as raised:  # noqa: BLE001 - as above
        return f"{type(raised).__name__}: {raised}"


def _probe(
    model: Any, backend: type[SharedPrefixCache | CpuPrefixCache]
) -> tuple[str | None, dict[int, int | None]]:
    """(how the backend's logits differ by more than rounding, or None; windows that each layer's attention was passed).

    Logits of two samples of two prompts at three steps each are compared with plain passes (`policy.rounding`).
    """
    vocabulary = model.config.get_text_config().vocab_size
    prompts: list[Ids] = [tuple(np.arange(2, 7) % vocabulary), tuple(np.arange(3, 5) % vocabulary)]
    scheduler = Scheduler(
        prompts,
        2,
        groups=2,
        max_new_tokens=[3, 3],
        stops=[],
        uniforms=lambda place, sample, count: np.zeros(count),
        places=[0, 1],
        refills=True,
    )
    decoder = backend(model, 2, 2, 4, 3)
    decoder.prefill(scheduler.admit(), scheduler.prompts_of([0, 1]))
    steps = []
    while scheduler.unfinished:
        steps.append(decoder.decode(scheduler.next_step(model.device)))
        scheduler.record(np.arange(1, 5) % vocabulary, np.zeros(4))
    logits = torch.stack(steps, 1).flatten(0, 1)  # [samples * steps, V]
    passes = [
        torch.tensor([[*prompt, *row] for row in group.tolist()], device=model.device)
        for prompt, group in zip(prompts, scheduler.ids[:, :, :2], strict=True)
    ]

    def plain() -> list[list[Tensor]]:
        found = (model(input_ids=ids, use_cache=False).logits[:, -3:].flatten(0, 1) for ids in passes)
        return [[row] for rows in found for row in rows]

    ours = [[row] for row in logits]
    differs = disagreement(model, ours, plain(), plain, states_dtype(model))
    return f"the probe's logits {differs}" if differs else None, decoder.cache.windows
