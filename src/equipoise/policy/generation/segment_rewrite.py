"""Segment rewriting: a policy resamples part of a response, between the response's own head and tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from equipoise.data.collate import Prompt, Response
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding

PROTECTED_TAIL = 3  # tokens at a response's end that a segment shorter than the response never reaches


def segment_start(length: int, longest: int, uniform: float) -> int:
    """Begin of the segment: k ~ Uniform{0, .., max(0, length - 3 - g)}, g = min(longest, length).

    length    tokens of the response, EOS included.       uniform   a uniform number in [0, 1).
    """
    return int(uniform * (max(0, length - PROTECTED_TAIL - min(longest, length)) + 1))


def rewrite(
    policy: CausalPolicy,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    uniforms: Sequence[float],
    *,
    longest: int,
    seed: int,
    decoding: Decoding,
) -> list[Response]:
    """Segment rewriting: each response with g = min(longest, |y|) tokens from its k-th on resampled.

    The policy continues prompt and y_<k. If it ends the response within g tokens the new one ends there; otherwise the
    old tail y_(k+g).. follows. With k = 0 and g = |y| this is the policy's own response, cut at |y| tokens.

    uniforms   one uniform number for each response, for its k; see `segment_start`.
    decoding   its `max_new_tokens` is replaced by g. Random streams are addressed as in `generation.sampling`.

    Source: Yin et al. 2024 (2405.20830), as their code does it.
    """
    starts = [segment_start(len(r.ids), longest, u) for r, u in zip(responses, uniforms, strict=True)]
    heads = [r.ids[:k] for r, k in zip(responses, starts, strict=True)]
    extended = [replace(p, ids=p.ids + head) for p, head in zip(prompts, heads, strict=True)]
    most = min(longest, max((len(r.ids) for r in responses), default=1))
    continuations = sample(policy, extended, 1, seed=seed, decoding=replace(decoding, max_new_tokens=most))
    spliced = [
        _spliced(old, head, group[0], longest)
        for old, head, group in zip(responses, heads, continuations, strict=True)
    ]
    texts = policy.tokenizer.batch_decode([ids for ids, _ in spliced], skip_special_tokens=True)
    return [Response(ids, text, finished) for (ids, finished), text in zip(spliced, texts, strict=True)]


def _spliced(
    old: Response, head: tuple[int, ...], continuation: Response, longest: int
) -> tuple[tuple[int, ...], bool]:
    """(ids, whether they end with a stop token)."""
    segment = continuation.ids[: min(longest, len(old.ids))]
    if continuation.finished and len(segment) == len(continuation.ids):
        return head + segment, True
    tail = old.ids[len(head) + len(segment) :]
    return head + segment + tail, old.finished and bool(tail)
