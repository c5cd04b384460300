"""Chat templates: turns to text by the tokenizer's own template, a given one, or the plain transcript."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from equipoise.data.errors import DataError, Refusal
from equipoise.data.records import Message
from equipoise.data.rendering.template_sandbox import BoundedTemplate, TemplateLimit, as_template_data

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System", "tool": "Tool"}
# what a row's chat_template_kwargs may not set: the conversation itself, and the template's own tools
_OWN_WORDS = """
conversation messages tools documents chat_template add_generation_prompt continue_final_message tokenize padding
truncation max_length return_tensors return_dict strftime_now raise_exception namespace dict
"""
RESERVED = frozenset(_OWN_WORDS.split())
TOO_MANY = 3  # rows that exceed the limits of a rendering, before the template itself is refused
_FAULTS = (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)
_ROLE = re.compile(r"\w[\w .-]*")
_MARK = "Qz7Continuatio "  # put where an open turn ends; its space shows whether the template trims


def plain_transcript(context: Sequence[Message]) -> str:
    r"""Turns as "Human: ...\n\nAssistant: ..." with the next answer's "Assistant:" open.

    A context that ends with an assistant turn is left as it is: the answer continues that turn. Raises Refusal for a
    role that is no word, because it could pretend to be a turn.
    """
    strange = next((turn.role for turn in context if not _ROLE.fullmatch(turn.role)), None)
    if strange is not None:
        raise Refusal("a role is not a word", repr(strange))
    turns = [f"{SPEAKERS.get(turn.role, turn.role.capitalize())}: {turn.content}" for turn in context]
    if context[-1].role != "assistant":
        turns.append("Assistant:")
    return "\n\n".join(turns)


def merged_system(turns: Sequence[Message]) -> tuple[Message, ...]:
    """The turns with a leading system turn put in front of the first user turn, two newlines between.

    Raises Refusal if no user turn follows it.
    """
    if not turns or turns[0].role != "system":
        return tuple(turns)
    system, *rest = turns
    if not rest or rest[0].role != "user":
        raise Refusal("no user turn follows the system turn, so they cannot be merged")
    first = Message(role="user", content=f"{system.content}\n\n{rest[0].content}", extra=rest[0].extra)
    return (first, *rest[1:])


class ChatTemplate:
    """A Jinja chat template, run in a bounded sandbox. Every error of the template becomes a Refusal.

    source   Jinja text; None: the tokenizer's own. A tokenizer with several templates uses the one called `tool_use`
             for conversations with tools, else `default`.
    date     what `strftime_now` says; None: today.
    kwargs   chat_template_kwargs of every conversation; a row's own win.
    header   text written behind every context; found by `template_probe` for templates that open no answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        source: str | None,
        *,
        date: date | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.date = date or datetime.now().astimezone().date()
        self.kwargs = dict(kwargs or {})
        self.header = ""
        self._words = dict(tokenizer.special_tokens_map)
        self._compiled = {name: _compile(text) for name, text in _sources(tokenizer, source).items()}
        self._exceeded = 0
        self._check_kwargs(self.kwargs)

    @property
    def sources(self) -> dict[str, str]:
        """The Jinja text of each template, by name; a single one is called `default`."""
        return {name: compiled.source for name, compiled in self._compiled.items()}

    def context(
        self,
        turns: Sequence[Message],
        tools: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        generation: bool = True,
    ) -> str:
        """The context as generation sees it: the next assistant turn opened, or the last one left open."""
        if turns[-1].role != "assistant" or not generation:
            text = self._render(turns, tools, kwargs, generation=generation)
            return text + self.header if generation and turns[-1].role != "assistant" else text
        last = turns[-1]
        marked = Message(role="assistant", content=last.content + _MARK, extra=last.extra)
        text = self._render((*turns[:-1], marked), tools, kwargs, generation=False)
        before, found, after = text.rpartition(_MARK.strip())
        if not found or last.content.strip() not in before:
            raise Refusal("the chat template cannot leave the last assistant turn open")
        return before if after.startswith(" ") else before.rstrip()

    def whole(
        self, turns: Sequence[Message], tools: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> str:
        """The full conversation, closed."""
        return self._render(turns, tools, kwargs, generation=False)

    def _render(
        self,
        turns: Sequence[Message],
        tools: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        *,
        generation: bool,
    ) -> str:
        own = dict(kwargs or {})
        self._check_kwargs(own)
        template = self._compiled.get("tool_use" if tools else "default") or self._compiled["default"]
        names = {**self._words, **self.kwargs, **own}
        names |= {"tools": list(tools) or None, "documents": None, "add_generation_prompt": generation}
        try:
            now = datetime.combine(self.date, time())
            return template.render(
                now, messages=as_template_data([turn.as_dict() for turn in turns]), **names
            )
        except TemplateLimit as error:
            self._exceeded += 1
            if self._exceeded > TOO_MANY:
                raise DataError(
                    f"the chat template cannot be used: {error}", hint="give another with `data.template`"
                ) from None
            raise Refusal("the chat template fails", str(error)) from None
        except _FAULTS as error:
            raise Refusal("the chat template fails", f"{type(error).__name__}: {error}"[:500]) from None

    def _check_kwargs(self, kwargs: Mapping[str, Any]) -> None:
        clash = (RESERVED | set(self._words)) & set(kwargs)
        if clash:
            raise Refusal("chat_template_kwargs may not set this", ", ".join(sorted(clash)))


def _sources(tokenizer: PreTrainedTokenizerBase, source: str | None) -> dict[str, str]:
    own: Any = source if source is not None else tokenizer.chat_template
    if isinstance(own, Mapping):
        named = {str(name): str(text) for name, text in own.items()}
        if "default" not in named:
            raise DataError(
                f"the tokenizer has the chat templates {', '.join(sorted(named))} and no default one",
                hint="give one of them with `data.template`",
            )
        return named
    return {"default": str(own)}


def _compile(source: str) -> BoundedTemplate:
    try:
        return BoundedTemplate(source)
    except TemplateError as error:
        where = f", line {error.lineno}" if hasattr(error, "lineno") else ""
        raise DataError(
            f"the chat template does not parse: {type(error).__name__}{where}: {error}"[:500],
            hint="fix the template, or choose `template: plain`",
        ) from None


def resolve(
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    date: date | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> tuple[ChatTemplate | None, str]:
    """(template, sentence about the choice); None stands for the plain transcript.

    template  "auto" (the tokenizer's own, else plain), "tokenizer", "plain", Jinja text, or a path to it
    """
    own = tokenizer.chat_template is not None
    if template == "tokenizer" and not own:
        raise DataError(
            "this tokenizer has no chat template", hint="choose `template: plain`, or give a Jinja file"
        )
    if template == "plain" or (template == "auto" and not own):
        why = "" if template == "plain" else " (the tokenizer has no chat template of its own)"
        return None, f"chat turns are written as a plain Human / Assistant transcript{why}"
    source, about = _chosen(template)
    try:
        return ChatTemplate(tokenizer, source, date=date, kwargs=kwargs), about
    except DataError as error:
        file = tokenizer.name_or_path if source is None else template if source != template else None
        raise DataError(error.reason, file=file, hint=error.hint) from None
    except Refusal as refusal:
        raise DataError(str(refusal), hint="change `data.chat_template_kwargs`") from None


def _chosen(template: str) -> tuple[str | None, str]:
    if template in ("auto", "tokenizer"):
        return None, "chat template: the tokenizer's own"
    if "{{" in template or "{%" in template:
        return template, "chat template: as configured"
    try:
        if not Path(template).is_file():
            raise OSError
        return Path(template).read_text(encoding="utf-8"), f"chat template: {template}"
    except (OSError, UnicodeDecodeError, ValueError):
        raise DataError(
            f"template {template[:200]!r} is neither a file nor Jinja text",
            hint="use auto, tokenizer, plain, Jinja text or the path of a Jinja file",
        ) from None
