"""Sampling: responses to many prompts at once, and the log-prob of every one.

Prompts take places in a batch and leave them when all their samples have ended, so that the next ones enter; a
sample that has ended costs nothing from the next step on. What a response says depends on the seed, its prompt and
its number, never on the batch it sits in (rounding aside).
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
from equipoise.policy.generation.backends import way_of
from equipoise.policy.generation.inverse_cdf import draw, uniforms
from equipoise.policy.generation.scheduler import Scheduler
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
) -> list[list[Response]]:
    """`count` responses to every prompt; prompt i draws from the streams of place `places[i]` (default: i).

    mixed_with   another model and its share b: each next-token distribution is then proportional to
                 pi^(1 - b) other^b, renormalised token by token (an approximation of the mixture of sequences).

    A response ends with a stop token (kept among its ids) or is cut after `max_new_tokens` or at the model's
    last position (`finished` False). `Response.logp` is the exact log-prob under the policy (or the mixture) at
    temperature 1 without truncation, whatever the sampling settings. Raises ModelError if a prompt leaves no room,
    or if the model answers with NaN.
    """
    longest = max((len(prompt.ids) for prompt in prompts), default=0)
    if longest >= policy.max_positions:
        raise ModelError(f"a prompt has {longest} tokens, the model takes {policy.max_positions}")
    if not prompts or not count:
        return [[] for _ in prompts]
    places = range(len(prompts)) if places is None else places
    room = [min(decoding.max_new_tokens, policy.max_positions - len(prompt.ids)) for prompt in prompts]
    if decoding.engine == "vllm":
        if mixed_with:
            raise ModelError("vLLM samples from one model: this method's mixture needs sampling.engine=torch")
        wanted = [
            vllm.Wanted(prompt.ids, room[i], seed, places[i], k)
            for i, prompt in enumerate(prompts)
            for k in range(count)
        ]
        written = vllm.write(policy, wanted, decoding)
    else:
        models = [(policy.model, 1.0)]
        if mixed_with:
            models = [(policy.model, 1 - mixed_with[1]), mixed_with]
        ways = [way_of(model) for model, _ in models]
        flight = Scheduler(
            [prompt.ids for prompt in prompts],
            count,
            groups=decoding.batch,
            room=room,
            stops=policy.stops,
            uniforms=partial(uniforms, seed),
            places=places,
            refills=all(way.refills for way in ways),
        )
        size = (flight.groups, count, longest - 1, flight.depth)
        readers = [(way(model, *size), share) for way, (model, share) in zip(ways, models, strict=True)]
        _write(policy, flight, readers, decoding)
        written = flight.written()
    texts = policy.tokenizer.batch_decode([ids for ids, _, _ in written], skip_special_tokens=True)
    responses = [
        Response(tuple(ids), text, finished, logp)
        for (ids, finished, logp), text in zip(written, texts, strict=True)
    ]
    return [responses[begin : begin + count] for begin in range(0, len(responses), count)]


def _write(
    policy: CausalPolicy, flight: Scheduler, readers: list[tuple[Any, float]], decoding: Decoding
) -> None:
    """One token after another, until every response of the flight is there."""
    with torch.autocast(policy.device.type, dtype=torch.bfloat16, enabled=policy.precision == "bf16"):
        while flight.unfinished:
            if groups := flight.enter():
                for reader, _ in readers:
                    reader.enter(groups, flight.held(groups))
            elif groups := flight.shrink():
                for reader, _ in readers:
                    reader.keep(groups)
            step = flight.step(policy.device)
            logits = _mixed([(reader.next(step), share) for reader, share in readers])
            token, logp = draw(logits, step.uniforms, decoding)
            if not bool(logp.isfinite().all()):
                raise ModelError(
                    "the model's logits are not numbers: its weights or its training have diverged"
                )
            flight.record(token.cpu().numpy(), logp.cpu().numpy())


def _mixed(parts: list[tuple[Tensor, float]]) -> Tensor:
    if len(parts) == 1:
        return parts[0][0]
    return torch.stack([share * logits.float().log_softmax(-1) for logits, share in parts]).sum(0)
