"""Sampling responses to many prompts by continuous batching, with the log-prob of each response.

A prompt occupies a group of slots until all its samples are finished, then the next prompt enters; a finished sample
costs nothing from the next step on. A response depends on the seed, its prompt and its index, never on its batch
(rounding aside).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from equipoise.data.collate import Prompt, Response
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.backends import choose_backend
from equipoise.policy.generation.contrast import Contrast
from equipoise.policy.generation.inverse_cdf import sample_tokens, uniforms
from equipoise.policy.generation.scheduler import Ended, Scheduler
from equipoise.policy.generation.vllm import in_process, remote
from equipoise.policy.protocol import Decoding, ModelError

# (logits [R, V] of each decoder, uniforms [R]) -> (tokens [R], their log-probs [R])
Combine: TypeAlias = Callable[[list[Tensor], Tensor], tuple[Tensor, Tensor]]


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
    contrast: Contrast | None = None,
    ended: Ended | None = None,
) -> list[list[Response]]:
    """Sample `count` responses to every prompt; prompt i uses the random streams of place `places[i]` (default: i).

    mixed_with   another model and its share b: each next-token distribution is then proportional to
                 pi^(1 - b) other^b, renormalised token by token (an approximation of the mixture of sequences).
    contrast     the same prompts in a second context, whose next-token distribution is moved away from that of the
                 prompts themselves; in place of a mixture.
    ended        says of a response's tokens so far whether it is cut there, unfinished: the end of a step, say.

    A response ends with a stop token (kept among its ids) or is cut after `max_new_tokens` or at the model's last
    position (`finished` False). `Response.logp` is the exact log-prob under the policy (the mixture, the contrast) at
    temperature 1 without truncation, whatever the sampling settings. Raises ModelError if a prompt fills all of the
    model's positions, or if logits are NaN.
    """
    contexts = [[prompt.ids for prompt in prompts]]
    if contrast:
        contexts.append([prompt.ids for prompt in contrast.prompts])
    lengths = [max(map(len, ids)) for ids in zip(*contexts, strict=True)]
    longest = max(lengths, default=0)
    if longest >= policy.max_positions:
        raise ModelError(
            f"a prompt has {longest} tokens, the model takes {policy.max_positions} with its response"
        )
    if not prompts or not count:
        return [[] for _ in prompts]
    places = range(len(prompts)) if places is None else places
    max_new_tokens = [min(decoding.max_new_tokens, policy.max_positions - length) for length in lengths]
    if decoding.engine != "torch":
        if mixed_with or contrast or ended:
            raise ModelError(
                "vLLM samples whole responses from one model in one context: mixtures, contrasts and sampling step by "
                "step need sampling.engine=torch"
            )
        requests = [
            in_process.Request(prompt.ids, max_new_tokens[i], seed, places[i], k)
            for i, prompt in enumerate(prompts)
            for k in range(count)
        ]
        engine = in_process if decoding.engine == "vllm" else remote
        completions = engine.generate(policy, requests, decoding)
    else:
        models, combine = [policy.model], partial(_from_one, decoding=decoding)
        if mixed_with:
            other, share = mixed_with
            models.append(other)
            combine = partial(_from_mixture, shares=(1 - share, share), decoding=decoding)
        elif contrast:
            models.append(policy.model)
            combine = partial(contrast.sample_tokens, decoding=decoding)
        backends = [choose_backend(model) for model in models]
        scheduler = Scheduler(
            contexts[0],
            count,
            groups=decoding.batch,
            max_new_tokens=max_new_tokens,
            stops=policy.stops,
            uniforms=partial(uniforms, seed),
            places=places,
            refills=all(backend.refills for backend in backends),
            others=contexts[1:],
            ended=ended,
        )
        decoders = []
        for i, (backend, model) in enumerate(zip(backends, models, strict=True)):
            context = i if contrast else 0
            width = max(map(len, contexts[context])) - 1
            decoders.append((backend(model, scheduler.groups, count, width, scheduler.depth), context))
        _decode_all(policy, scheduler, decoders, combine)
        completions = scheduler.completions()
    texts = policy.tokenizer.batch_decode([ids for ids, _, _ in completions], skip_special_tokens=True)
    responses = [
        Response(tuple(ids), text, finished, logp)
        for (ids, finished, logp), text in zip(completions, texts, strict=True)
    ]
    return [responses[begin : begin + count] for begin in range(0, len(responses), count)]


def _decode_all(
    policy: CausalPolicy, scheduler: Scheduler, decoders: list[tuple[Any, int]], combine: Combine
) -> None:
    """Decode token by token until every response is finished; each decoder reads its own context."""
    with torch.autocast(policy.device.type, dtype=torch.bfloat16, enabled=policy.precision == "bf16"):
        while scheduler.unfinished:
            if groups := scheduler.admit():
                for decoder, context in decoders:
                    decoder.prefill(groups, scheduler.prompts_of(groups, context))
            elif groups := scheduler.compact():
                for decoder, _ in decoders:
                    decoder.keep_groups(groups)
            steps = {context: scheduler.next_step(policy.device, context) for _, context in decoders}
            logits = [decoder.decode(steps[context]) for decoder, context in decoders]
            token, logp = combine(logits, steps[0].uniforms)
            if not bool(logp.isfinite().all()):
                raise ModelError(
                    "the model's logits are NaN or infinite: its weights or its training have diverged"
                )
            scheduler.record(token.cpu().numpy(), logp.cpu().numpy())


def _from_one(logits: list[Tensor], uniform: Tensor, *, decoding: Decoding) -> tuple[Tensor, Tensor]:
    return sample_tokens(logits[0], uniform, decoding)


def _from_mixture(
    logits: list[Tensor], uniform: Tensor, *, shares: tuple[float, ...], decoding: Decoding
) -> tuple[Tensor, Tensor]:
    """Sample from the geometric mixture, whose logits are sum_m share_m log pi_m [R, V], not normalised."""
    parts = zip(shares, logits, strict=True)
    mixed = torch.stack([share * part.float().log_softmax(-1) for share, part in parts]).sum(0)
    return sample_tokens(mixed, uniform, decoding)
