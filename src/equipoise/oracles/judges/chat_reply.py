"""Chat completions as untrusted input: the body of a server's reply, read field by field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


class Unreadable(ValueError):
    """A reply without an answer; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """What a chat completion says.

    text    of the first choice
    cut     whether it ends because max_tokens was reached
    tokens  (of the request, of the answer), as the server counts; None: it does not say
    first   the first token with its alternatives, as (token, log-prob); empty: the server gives no log-probs
    """

    text: str
    cut: bool
    tokens: tuple[int, int] | None
    first: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, body: bytes) -> ChatReply:
        """The reply of a body. Raises Unreadable for one that is no chat completion with an answer."""
        try:
            whole = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"the server's reply is no JSON: {body[:80]!r}") from error
        choices = _field(whole, "choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = _field(choice, "message")
        if not isinstance(message, Mapping):
            raise Unreadable("the server's reply has no answer")
        text = message.get("content")
        return cls(
            text=text if isinstance(text, str) else "",
            cut=_field(choice, "finish_reason") == "length",
            tokens=_tokens(_field(whole, "usage")),
            first=tuple(_alternatives(_field(_field(choice, "logprobs"), "content"))),
        )


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _tokens(usage: Any) -> tuple[int, int] | None:
    counts = [_field(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in counts):
        return None
    return counts[0], counts[1]


def _alternatives(content: Any) -> Iterator[tuple[str, float]]:
    first = content[0] if isinstance(content, list) and content else None
    top = _field(first, "top_logprobs")
    for entry in top if isinstance(top, list) else ():
        token, logprob = _field(entry, "token"), _field(entry, "logprob")
        if isinstance(token, str) and isinstance(logprob, int | float) and not math.isnan(logprob):
            yield token, float(logprob)
