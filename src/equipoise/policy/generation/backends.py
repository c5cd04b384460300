"""Chooses and probes a decoding backend: prefix sharing where it agrees with plain passes, else padded rows.

Prefix sharing runs on packed weights (`cpu_decoder`) where the model has the common structure and is on a CPU.
"""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from equipoise.data.collate import Ids
from equipoise.policy.generation import cpu_decoder
from equipoise.policy.generation.cpu_decoder import CpuPrefixCache
from equipoise.policy.generation.padded import PaddedDecoder
from equipoise.policy.generation.prefix_cache import SharedPrefixCache, windows_of
from equipoise.policy.generation.scheduler import Scheduler
from equipoise.policy.scorer import states_dtype

log = logging.getLogger(__name__)
ROUNDINGS = 4.0  # times the model's own rounding that a probe may differ
MOST_ROUNDING = 1e-2  # relative; more is a fault, whatever the model does

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
        error, windows = _probe(model, SharedPrefixCache)
    except Exception as raised:  # noqa: BLE001 - a foreign model may raise anything; the padded backend remains
        return f"its attention cannot share prompts ({type(raised).__name__}: {raised})"
    # a window longer than the probe would not show in the numbers
    for layer, window in enumerate(windows_of(model)):
        if window is not None and windows.get(layer) != window:
            return f"layer {layer} has a window that is not passed to its attention"
    return _too_large(error, model)


@torch.no_grad()
def why_not_cpu_decoder(model: Any) -> str | None:
    """Why decoding on packed CPU weights is ruled out for the model, or None: by its structure and a tiny probe."""
    why = cpu_decoder.why_unsupported(model)
    if why:
        return why
    try:
        return _too_large(_probe(model, CpuPrefixCache)[0], model)
    except Exception as raised:  # noqa: BLE001 - as above
        return f"{type(raised).__name__}: {raised}"


def _too_large(error: float, model: Any) -> str | None:
    """A sentence if the error is more than rounding: 1e3 float steps, or a few times the model's own rounding.

    A model of many layers with large activations rounds more than a tiny one: what transformers' own KV cache does to
    its logits says how much.
    """
    dtype = states_dtype(model)
    allowed = 1e3 * torch.finfo(dtype).eps if dtype == torch.float32 else 0.1
    if not error <= allowed:
        allowed = max(allowed, min(ROUNDINGS * _rounding(model), MOST_ROUNDING))
    return f"the probe's logits differ by {error:.1e}" if not error <= allowed else None


def _rounding(model: Any) -> float:
    """Relative difference of the logits of three steps with transformers' KV cache to those of one plain pass."""
    vocabulary = model.config.get_text_config().vocab_size
    row = torch.from_numpy(np.arange(2, 10) % vocabulary)[None].to(model.device)
    exact = model(input_ids=row, use_cache=False).logits[0, -3:].float()
    step = model(input_ids=row[:, :5], use_cache=True)
    ours = []
    for place in range(5, 8):
        step = model(
            input_ids=row[:, place : place + 1], past_key_values=step.past_key_values, use_cache=True
        )
        ours.append(step.logits[0, -1].float())
    return float((torch.stack(ours) - exact).abs().max() / exact.abs().max())


def _probe(
    model: Any, backend: type[SharedPrefixCache | CpuPrefixCache]
) -> tuple[float, dict[int, int | None]]:
    """(relative error of the backend's logits, windows that each layer's attention was passed).

    The error is the largest difference from plain passes over the largest logit, for two samples of two prompts after
    three steps each.
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
    logits = []
    while scheduler.unfinished:
        logits.append(decoder.decode(scheduler.next_step(model.device)))
        scheduler.record(np.arange(1, 5) % vocabulary, np.zeros(4))
    plain = [
        model(input_ids=torch.tensor([[*prompt, *row]], device=model.device), use_cache=False).logits[0, -3:]
        for prompt, group in zip(prompts, scheduler.ids[:, :, :2], strict=True)
        for row in group.tolist()
    ]
    ours, exact = torch.stack(logits, 1).float(), torch.stack(plain).float()
    return float((ours - exact).abs().max() / exact.abs().max()), decoder.cache.windows
