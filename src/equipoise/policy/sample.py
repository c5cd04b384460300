"""Sampling: batches of responses with a shared prompt cache, and the log-prob of every one.

A draw is the inverse of the cumulative distribution at one uniform number per token. The uniforms of a
response depend on the seed and on which prompt and sample it is, never on the batch it happens to sit in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from equipoise.data.collate import Ids, Prompt, Response
from equipoise.policy.protocol import Decoding, ModelError

if TYPE_CHECKING:
    from equipoise.policy.causal import CausalPolicy

Models = list[tuple[Any, float]]  # models and their shares of the next-token log-prob, which sum to 1


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
    temperature 1 without truncation, whatever the sampling settings. Raises ModelError if a prompt leaves no room.
    """
    longest = max((len(prompt.ids) for prompt in prompts), default=0)
    if longest >= policy.max_positions:
        raise ModelError(f"a prompt has {longest} tokens, the model takes {policy.max_positions}")
    # batches of similar length waste little on padding; the answers go back in the caller's order
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    responses: list[list[Response]] = [[] for _ in prompts]
    places = range(len(prompts)) if places is None else places
    models = [(policy.model, 1.0)]
    if mixed_with:
        models = [(policy.model, 1 - mixed_with[1]), mixed_with]
    for begin in range(0, len(order), decoding.batch):
        chosen = order[begin : begin + decoding.batch]
        uniforms = torch.from_numpy(
            np.stack(
                [_uniforms(seed, places[i], j, decoding.max_new_tokens) for i in chosen for j in range(count)]
            )
        )
        batch = [prompts[i].ids for i in chosen]
        ids, logps, finished = _decode(policy, models, batch, count, uniforms, decoding)
        texts = policy.tokenizer.batch_decode(ids, skip_special_tokens=True)
        for row, (tokens, text) in enumerate(zip(ids, texts, strict=True)):
            response = Response(tuple(tokens), text, finished[row], logps[row])
            responses[chosen[row // count]].append(response)
    return responses


def _uniforms(seed: int, prompt: int, index: int, count: int) -> np.ndarray:
    """One stream per response, addressed by prompt and sample."""
    # uint64 said aloud: numpy makes a list with one large integer floats, and streams would collide
    key = np.array([seed & (2**64 - 1), (prompt << 32) | index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def _decode(
    policy: CausalPolicy,
    models: Models,
    prompts: list[Ids],
    count: int,
    uniforms: Tensor,
    decoding: Decoding,
) -> tuple[list[list[int]], list[float], list[bool]]:
    """Prefill each prompt once, repeat its cache for the samples, then one token a step."""
    device, stops = policy.device, torch.tensor(policy.stops, device=policy.device)
    uniforms = uniforms.to(device)
    ids, mask = _left_pad(prompts, policy.pad, device)
    # each row has its own room, so that a response does not depend on its neighbours' prompts
    room = torch.tensor([policy.max_positions - len(prompt) for prompt in prompts], device=device)
    room = room.clamp(max=decoding.max_new_tokens).repeat_interleave(count)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=policy.precision == "bf16")
    with autocast:
        caches: list[Any] = [None] * len(models)
        log_probs = _next(models, caches, ids, mask, _positions(mask)).repeat_interleave(count, 0)
        for cache in caches:
            cache.batch_repeat_interleave(count)
        mask = mask.repeat_interleave(count, 0)
        rows = len(log_probs)
        tokens = torch.full((rows, int(room.max())), policy.pad, dtype=torch.long, device=device)
        logp = torch.zeros(rows, dtype=torch.float64, device=device)
        length = torch.zeros(rows, dtype=torch.long, device=device)
        running = torch.ones(rows, dtype=torch.bool, device=device)
        finished = torch.zeros_like(running)
        for step in range(tokens.shape[1]):
            token = choose(log_probs, uniforms[:, step], decoding)
            tokens[:, step] = torch.where(running, token, tokens[:, step])
            logp += torch.where(running, log_probs.gather(1, token[:, None])[:, 0].double(), 0.0)
            length += running
            finished |= running & torch.isin(token, stops)
            running &= ~finished & (length < room)
            if not bool(running.any()):
                break
            mask = torch.cat([mask, mask.new_ones(rows, 1)], dim=1)
            # a row that is done goes on with its neighbours: its positions must stay in the table
            position = _positions(mask)[:, -1:].clamp(max=policy.max_positions - 1)
            log_probs = _next(models, caches, token[:, None], mask, position)
    kept = [row[:n] for row, n in zip(tokens.tolist(), length.tolist(), strict=True)]
    return kept, logp.tolist(), finished.tolist()


def _next(models: Models, caches: list[Any], ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """Log-probs [R, V] of the next token; each model's cache is made or extended in `caches`."""
    parts = []
    for index, (model, share) in enumerate(models):
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=caches[index],
            use_cache=True,
            logits_to_keep=1,
        )
        caches[index] = out.past_key_values
        parts.append(share * out.logits[:, -1].float().log_softmax(-1))
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0).log_softmax(-1)


def choose(log_probs: Tensor, uniform: Tensor, decoding: Decoding) -> Tensor:
    """One token per row [R] from log-probs [R, V]: greedy, or the inverse CDF at the row's uniform."""
    if decoding.temperature == 0:
        return log_probs.argmax(-1)
    scaled = (log_probs / decoding.temperature).double()
    if decoding.top_k and decoding.top_k < scaled.shape[1]:
        threshold = scaled.topk(decoding.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < threshold, -torch.inf)
    probs = scaled.softmax(-1)
    if decoding.top_p < 1:
        ranked, order = probs.sort(dim=-1, descending=True)
        # keep tokens until the mass BEFORE them reaches top_p: the first one always stays
        ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= decoding.top_p, 0.0)
        probs = torch.zeros_like(probs).scatter(-1, order, ranked)
    cdf = probs.cumsum(-1)
    token = torch.searchsorted(cdf, (uniform.double() * cdf[:, -1])[:, None], right=True)[:, 0]
    return token.clamp(max=log_probs.shape[1] - 1)


def _left_pad(prompts: list[Ids], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)
