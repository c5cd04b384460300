"""Prompts with a principle: the second context of Linear Alignment's contrast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equipoise.data.collate import Prompt
from equipoise.data.records import Conversation, template_kwargs_of, tools_of
from equipoise.evaluate.writer import Writer
from equipoise.models.errors import ModelError


def with_principle(context: Any, principle: str) -> Any:
    """A context with a principle: in the system message of a chat, after what it says already, or as a paragraph before
    plain text. An empty principle changes nothing."""
    if not principle:
        return context
    if isinstance(context, str):
        return f"{principle}\n\n{context}"
    turns = [dict(turn) for turn in context]
    if turns and turns[0].get("role") == "system" and isinstance(turns[0].get("content"), str):
        turns[0]["content"] = f"{turns[0]['content']}\n\n{principle}"
    else:
        turns.insert(0, {"role": "system", "content": principle})
    tools, kwargs = tools_of(context), template_kwargs_of(context)
    return Conversation(turns, tools, kwargs) if tools or kwargs else turns


def principled(writer: Writer, prompts: Sequence[Prompt], principle: str) -> list[Prompt]:
    """The prompts with the principle, as the writer renders them.

    Raises ModelError if one leaves no room for an answer, Refusal for what the template cannot render.
    """
    rendered = [writer.prompt(with_principle(prompt.context, principle)) for prompt in prompts]
    limit = writer.renderer.max_length
    longest = max((len(prompt.ids) for prompt in rendered), default=0)
    if longest >= limit:
        raise ModelError(
            f"with the principle a prompt has {longest} tokens and leaves no room within {limit}"
        )
    return rendered
