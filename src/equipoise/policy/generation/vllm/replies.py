"""Completions of a vLLM server as untrusted input: token ids and their log-probs, read field by field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.policy.generation.vllm.in_process import Completion, Request
from equipoise.policy.protocol import Decoding


def fields_of(model: str, request: Request, decoding: Decoding, stops: Sequence[int]) -> dict[str, Any]:
    """Fields of `/v1/completions` for one response. Every setting is given: a server has defaults of its own."""
    return {
        "model": model,
        "prompt": list(request.prompt),
        "add_special_tokens": False,
        "n": 1,
        "max_tokens": request.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": request.vllm_seed,
        "stop_token_ids": list(stops),
        "logprobs": 0,  # of the sampled token only
        "return_token_ids": True,
    }


def completion_of(reply: Any, request: Request, stops: Sequence[int], vocabulary: int) -> Completion:
    """(ids, whether a stop token ended them, log-prob) of a reply.

    vocabulary   rows of the policy's embedding: a token id is one of them.

    Raises ValueError, saying what is wrong, for a reply that is not the completion that was asked for.
    """
    choices = _field(reply, "choices")
    if not isinstance(choices, list) or len(choices) != 1:
        raise ValueError("it has not exactly one of `choices`")
    (choice,) = choices
    ids = _field(choice, "token_ids")
    if not isinstance(ids, list):
        raise ValueError("it has no `token_ids`: the server must be vLLM, 0.10.2 or later")
    _check_ids(ids, vocabulary)
    if not 0 < len(ids) <= request.max_new_tokens:
        raise ValueError(f"it has {len(ids):,} tokens, and 1 to {request.max_new_tokens:,} were asked for")
    read = _field(choice, "prompt_token_ids")
    if read is not None and read != list(request.prompt):
        raise ValueError("it answers another prompt than the one that was sent")
    logps = _field(_field(choice, "logprobs"), "token_logprobs")
    if not isinstance(logps, list) or len(logps) != len(ids):
        raise ValueError(f"it has {len(ids):,} tokens and not as many `token_logprobs`")
    if any(isinstance(p, bool) or not isinstance(p, int | float) or not math.isfinite(p) for p in logps):
        raise ValueError("a log-prob is no finite number")
    return ids, _ended(_field(choice, "finish_reason"), ids, request, stops), math.fsum(logps)


def _ended(reason: Any, ids: Sequence[int], request: Request, stops: Sequence[int]) -> bool:
    if any(token in stops for token in ids[:-1]):
        raise ValueError("it goes on after a stop token")
    if reason == "stop":
        if ids[-1] not in stops:
            raise ValueError(f"it ends with token {ids[-1]}, which is not a stop token of the policy")
        return True
    if reason != "length":
        raise ValueError(f"its `finish_reason` is {reason!r}")
    if len(ids) < request.max_new_tokens:
        raise ValueError(
            f"it is cut after {len(ids):,} of {request.max_new_tokens:,} tokens: the server's --max-model-len is too "
            "small"
        )
    return ids[-1] in stops


def _check_ids(ids: Sequence[Any], vocabulary: int) -> None:
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int):
            raise ValueError("a token id is no integer")
        if not 0 <= token < vocabulary:
            raise ValueError(f"token {token} is not of the policy's vocabulary of {vocabulary:,}")


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None
