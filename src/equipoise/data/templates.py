"""Chat templates: turns to text by the tokenizer's own template, a given one, or the plain transcript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from equipoise.data.errors import DataError, Refusal
from equipoise.data.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System", "tool": "Tool"}
_OURS = (
    "conversation",
    "tools",
    "documents",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
)
RESERVED = frozenset(
    (*_OURS, "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict")
)
_FAULTS = (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError)


def plain_transcript(context: Sequence[Message]) -> str:
    r"""Turns as "Human: ...\n\nAssistant: ..." with the next answer's "Assistant:" open.

    A context that ends with an assistant turn is left as it is: the answer continues that turn.
    """
    turns = [f"{SPEAKERS.get(turn.role, turn.role.capitalize())}: {turn.content}" for turn in context]
    if context[-1].role != "assistant":
        turns.append("Assistant:")
    return "\n\n".join(turns)


class ChatTemplate:
    """A Jinja chat template, run in transformers' sandbox. Every error of the template becomes a Refusal."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, source: str | None) -> None:
        self.tokenizer, self.source = tokenizer, source
        self._probe()

    def context(
        self, turns: Sequence[Message], tools: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> str:
        """The context as generation sees it: the next assistant turn opened, or the last one left open."""
        prefilled = turns[-1].role == "assistant"
        return self._apply(turns, tools, kwargs, generation=not prefilled, continue_final=prefilled)

    def whole(
        self, turns: Sequence[Message], tools: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> str:
        """The full conversation, closed."""
        return self._apply(turns, tools, kwargs, generation=False, continue_final=False)

    def _apply(
        self,
        turns: Sequence[Message],
        tools: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        *,
        generation: bool,
        continue_final: bool,
    ) -> str:
        clash = RESERVED & set(kwargs or {})
        if clash:
            raise Refusal("chat_template_kwargs may not set this", ", ".join(sorted(clash)))
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [turn.as_dict() for turn in turns],
                    tools=list(tools) or None,
                    chat_template=self.source,
                    tokenize=False,
                    add_generation_prompt=generation,
                    continue_final_message=continue_final,
                    **(kwargs or {}),
                )
            )
        except _FAULTS as error:
            raise Refusal("the chat template fails", f"{type(error).__name__}: {error}") from None

    def _probe(self) -> None:
        """Raises DataError for a template that cannot render one question and its answer, or drops either."""
        question, answer = (
            Message(role="user", content="Quae"),
            Message(role="assistant", content="Responsum"),
        )
        try:
            open_turn, closed = self.context([question]), self.whole([question, answer])
        except Refusal as refusal:
            raise DataError(str(refusal), hint="fix the template, or choose `template: plain`") from None
        if answer.content not in closed or question.content not in open_turn:
            raise DataError(
                "the chat template drops the content of a turn",
                hint=f"a question and its answer give {closed!r}; fix it, or choose `template: plain`",
            )


def resolve(template: str, tokenizer: PreTrainedTokenizerBase) -> tuple[ChatTemplate | None, str]:
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
    if template in ("auto", "tokenizer"):
        return ChatTemplate(tokenizer, None), "chat template: the tokenizer's own"
    if "{{" in template or "{%" in template:
        return ChatTemplate(tokenizer, template), "chat template: as configured"
    if not Path(template).is_file():
        raise DataError(
            f"template {template!r} is neither a file nor Jinja text",
            hint="use auto, tokenizer, plain, Jinja text or the path of a Jinja file",
        )
    return ChatTemplate(tokenizer, Path(template).read_text(encoding="utf-8")), f"chat template: {template}"
