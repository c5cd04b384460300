"""Sampling responses to many prompts by continuous batching, with the log-prob of each response.

A prompt occupies a group of slots until all its samples are finished, then the next prompt enters; a finished sample
costs nothing from the next step on. A response depends on the seed, its prompt and its index, never on its batch
(rounding aside).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from equipoise.data.collate import Prompt, Response
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation import vllm
from equipoise.policy.generation.backends import choose_backend
from equipoise.policy.generation.inverse_cdf import sample_tokens, uniforms
from equipoise.policy.generation.scheduler import Ended, Scheduler
from equipoise.policy.protocol import Decoding, ModelError


@torch.no_grad()
def sample(
    policy: CausalPolicy,
    prompts: Sequence[Prompt],
    count: int,
    *,
    seed: int,
    decoding: Decoding,
    places: Sequence[int] | None = None,
    mixed_with: tuple[Any, float] | None = None,
    ended: Ended | None = None,
) -> list[list[Response]]:
    """Sample `count` responses to every prompt; prompt i uses the random streams of place `places[i]` (default: i).

    mixed_with   another model and its share b: each next-token distribution is then proportional to
                 pi^(1 - b) other^b, renormalised token by token (an approximation of the mixture of sequences).
    ended        says of a response's tokens so far whether it is cut there, unfinished: the end of a step, say.

    A response ends with a stop token (kept among its ids) or is cut after `max_new_tokens` or at the model's last
    position (`finished` False). `Response.logp` is the exact log-prob under the policy (or the mixture) at temperature
    1 without truncation, whatever the sampling settings. Raises ModelError if a prompt fills all of the model's
    positions, or if logits are NaN.
    """
    longest = max((len(prompt.ids) for prompt in prompts), default=0)
    if longest >= policy.max_positions:
        raise ModelError(
            f"a prompt has {longest} tokens, the model takes {policy.max_positions} with its response"
        )
    if not prompts or not count:
        return [[] for _ in prompts]
    places = range(len(prompts)) if places is None else places
    max_new_tokens = [
        min(decoding.max_new_tokens, policy.max_positions - len(prompt.ids)) for prompt in prompts
    ]
    if decoding.engine == "vllm":
        if mixed_with:
            raise ModelError("vLLM samples from one model: this method's mixture needs sampling.engine=torch")
        if ended:
            raise ModelError(
                "vLLM samples whole responses: sampling step by step needs sampling.engine=torch"
            )
        requests = [
            vllm.Request(prompt.ids, max_new_tokens[i], seed, places[i], k)
            for i, prompt in enumerate(prompts)
            for k in range(count)
        ]
        completions = vllm.generate(policy, requests, decoding)
    else:
        models = [(policy.model, 1.0)]
        if mixed_with:
            models = [(policy.model, 1 - mixed_with[1]), mixed_with]
        backends = [choose_backend(model) for model, _ in models]
        scheduler = Scheduler(
            [prompt.ids for prompt in prompts],
            count,
            groups=decoding.batch,
            max_new_tokens=max_new_tokens,
            stops=policy.stops,
            uniforms=partial(uniforms, seed),
            places=places,
            refills=all(backend.refills for backend in backends),
            ended=ended,
        )
        size = (scheduler.groups, count, longest - 1, scheduler.depth)
        decoders = [
            (backend(model, *size), share) for backend, (model, share) in zip(backends, models, strict=True)
        ]
        _decode_all(policy, scheduler, decoders, decoding)
        completions = scheduler.completions()
    texts = policy.tokenizer.batch_decode([ids for ids, _, _ in completions], skip_special_tokens=True)
    responses = [
        Response(tuple(ids), text, finished, logp)
        for (ids, finished, logp), text in zip(completions, texts, strict=True)
    ]
    return [responses[begin : begin + count] for begin in range(0, len(responses), count)]


def _decode_all(
    policy: CausalPolicy, scheduler: Scheduler, decoders: list[tuple[Any, float]], decoding: Decoding
) -> None:
    """Decode token by token until every response is finished."""
    with torch.autocast(policy.device.type, dtype=torch.bfloat16, enabled=policy.precision == "bf16"):
        while scheduler.unfinished:
            if groups := scheduler.admit():
                for decoder, _ in decoders:
                    decoder.prefill(groups, scheduler.prompts_of(groups))
            elif groups := scheduler.compact():
                for decoder, _ in decoders:
                    decoder.keep_groups(groups)
            step = scheduler.next_step(policy.device)
            logits = _mixed([(decoder.decode(step), share) for decoder, share in decoders])
            token, logp = sample_tokens(logits, step.uniforms, decoding)
            if not bool(logp.isfinite().all()):
                raise ModelError(
                    "the model's logits are NaN or infinite: its weights or its training have diverged"
                )
            scheduler.record(token.cpu().numpy(), logp.cpu().numpy())


def _mixed(parts: list[tuple[Tensor, float]]) -> Tensor:
    """Geometric mixture: sum_m share_m log pi_m [R, V], not normalised; one model's logits unchanged."""
    if len(parts) == 1:
        return parts[0][0]
    return torch.stack([share * logits.float().log_softmax(-1) for logits, share in parts]).sum(0)
