"""Tokenisation of prompts and answers, the only place where text becomes tokens: joins, BOS, EOS, templates, limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from equipoise.data.collate import Ids, Prompt, Response, cut, laid_out
from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.parse_values import messages_of
from equipoise.data.reading.read import Dataset
from equipoise.data.records import (
    Candidate,
    Context,
    Message,
    Record,
    template_kwargs_of,
    tools_of,
)
from equipoise.data.rendering.answer_tokens import Answer, AnswerTokens
from equipoise.data.rendering.prompt_limit import keep_end
from equipoise.data.rendering.rendering_run import Opened, Rendered, RenderingRun, sides_of
from equipoise.data.rendering.template_probe import Probe, probe
from equipoise.data.rendering.templates import merged_system, plain_transcript, resolve
from equipoise.data.rendering.tokens import Codec, load_tokenizer
from equipoise.data.rendering.written_parts import call_parts, reasoning_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Rendered", "Renderer", "load_tokenizer", "sides_of"]

# the parts of a row, each with its tokens' texts and whether they are scored
Pieces: TypeAlias = list[tuple[str, list[tuple[str, bool]]]]


class Renderer:
    """Renders records as token ids with a tokenizer; needs no model.

    template           "auto": the tokenizer's chat template, or the plain transcript when it has none;
                       "tokenizer", "plain", Jinja text or the path of a Jinja file
    max_length         most tokens of prompt and response together
    max_prompt_length  most tokens of the prompt; None leaves at least one token for the response
    long_prompt        "drop" refuses rows with a longer prompt; "keep_end" cuts it to max_prompt_length (else
                       max_length // 2) tokens: a chat inside its turns, oldest first, with system turn and headers
                       kept; a text to BOS and its end
    allow_template_divergence
                       accept a prompt that the template renders differently once the answer follows
    chat_template_kwargs
                       settings of the template for every row, such as {"enable_thinking": False}; a row's own win
    system_turn        "merge" puts a system turn in front of the first question where the template has no place for it
    reasoning          "drop" accepts answers whose reasoning the template leaves out
    template_date      the day that a template may write, YYYY-MM-DD; None: today

    Chat: what generation is given is the prompt. The full conversation is rendered and tokenised once, the prompt must
    be a prefix of it, token by token, and the scored tokens are proved to be the answer's content and the one token
    that closes it (`answer_tokens`). Text and the plain transcript: prompt and answer are tokenised apart, BOS on the
    prompt only, no dummy space on the answer, EOS after it.

    Raises DataError for a template that does not work, before any row is read.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str = "auto",
        max_length: int,
        max_prompt_length: int | None = None,
        long_prompt: Literal["drop", "keep_end"] = "drop",
        allow_template_divergence: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        system_turn: Literal["keep", "merge"] = "keep",
        reasoning: Literal["keep", "drop"] = "keep",
        template_date: str | None = None,
    ) -> None:
        if max_length < 2 or not 0 < (max_prompt_length or 1) < max_length:
            raise DataError(
                f"max_length {max_length}, max_prompt_length {max_prompt_length}: no room for an answer",
                hint="max_prompt_length must be smaller than max_length",
            )
        for name, value, known in (
            ("long_prompt", long_prompt, ("drop", "keep_end")),
            ("system_turn", system_turn, ("keep", "merge")),
            ("reasoning", reasoning, ("keep", "drop")),
        ):
            if value not in known:
                raise DataError(f"{name} {value!r} is unknown", hint=f"use {' or '.join(known)}")
        self.codec = Codec(tokenizer)
        self.max_length, self.max_prompt_length = max_length, max_prompt_length
        self.long_prompt, self.allow_template_divergence = long_prompt, allow_template_divergence
        self.template, self.about_template = resolve(
            template, tokenizer, date=_day(template_date), kwargs=chat_template_kwargs
        )
        self.probe: Probe | None = None
        self.answers: AnswerTokens | None = None
        if self.template is not None:
            self.probe = probe(self.template, self.codec)
            self.answers = AnswerTokens(
                self.template, self.probe, self.codec, keep_reasoning=reasoning == "keep"
            )
        self.merges = system_turn == "merge" and self.probe is not None and not self.probe.system

    @property
    def turn_ends(self) -> tuple[int, ...]:
        """Ids of the tokens with which the template closes an answer: generation stops at them."""
        return tuple(sorted(self.answers.turn_ends)) if self.answers else ()

    @property
    def date(self) -> date | None:
        """The day that the template writes; None if it writes none."""
        return self.template.date if self.template and self.probe and self.probe.writes_date else None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that a rendering depends on besides the row: tokenizer, template, its settings, the date
        that it writes."""
        tokenizer = self.codec.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        settings = self.template and [
            self.template.sources,
            self.template.kwargs,
            str(self.date),
            self.merges,
        ]
        about = json.dumps(
            [settings, dict(tokenizer.special_tokens_map), self.about_template if not settings else ""],
            sort_keys=True,
            default=str,
        )
        return hashlib.sha256(f"{words}\n{about}".encode()).hexdigest()[:32]

    def prompt(
        self,
        context: Context | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] = (),
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Ids:
        """The prompt's token ids, not cut. Raises Refusal for a context that the template cannot render."""
        return self.opened(context, tools=tools, template_kwargs=template_kwargs).ids

    def opened(
        self,
        context: Context | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] = (),
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Opened:
        """The context as generation is given it. Raises Refusal where a part of it would be lost."""
        if isinstance(context, str):
            return Opened(context, self._checked(self.codec.opening(context)))
        turns = tuple(t if isinstance(t, Message) else messages_of(t, "context")[0] for t in context)
        if self.answers is None:
            _refuse_what_needs_a_template(turns, tools)
            return Opened(turns, self._checked(self.codec.opening(plain_transcript(turns))))
        turns = merged_system(turns) if self.merges else turns
        try:
            text, lost = self.answers.context(turns, tools, template_kwargs or {})
        except Refusal as refusal:
            if turns[0].role != "system" or self.probe is None or self.probe.system:
                raise
            detail = f"{refusal.detail}; system_turn=merge opens the first question with the system turn"
            raise Refusal(refusal.reason, detail) from None
        return Opened(turns, self._checked(self.codec.ids(text)), bool(lost))

    def answer(self, prompt: Prompt, text: str) -> Response:
        """Renders another answer to an already rendered prompt; cut at `max_length`."""
        context = prompt.context
        turns = context if isinstance(context, str) else messages_of(list(context), "context")
        content = text if isinstance(turns, str) else (Message(role="assistant", content=text),)
        record = Record(context=turns, tools=tools_of(context), template_kwargs=template_kwargs_of(context))
        whole = self.opened(turns, tools=record.tools, template_kwargs=record.template_kwargs)
        made = self.response(record, Candidate(content=content), whole)
        return cut(Response(made.ids, text), self.max_length - len(prompt.ids))

    def text(self, ids: Sequence[int]) -> str:
        """The text of a response, without special tokens."""
        return self.codec.text(ids)

    def pieces(self, row: Rendered) -> Pieces:
        """The prompt and each answer of a row as texts of tokens, each with whether it is scored.

        Characters that several tokens spell are whole.
        """
        parts: Pieces = [("prompt", self._shown(row.prompt_ids, (False,) * len(row.prompt_ids)))]
        for side, response in zip(sides_of(row.record), row.responses, strict=True):
            parts.append((side, self._shown(*laid_out(response))))
        return parts

    def _shown(self, ids: Ids, scored: Sequence[bool]) -> list[tuple[str, bool]]:
        return [each for each in zip(self.codec.shown(ids), scored, strict=True) if each[0]]

    def render(self, dataset: Dataset) -> list[Rendered]:
        """Renders the rows that can be rendered; the others are entered in the ledger as refused.

        Raises DataError when no row is left, or (strict) for the first row that cannot be rendered.
        """
        run = RenderingRun(self, dataset.ledger)
        rendered = [done for record in dataset.records if (done := run.row(record))]
        run.report()
        dataset.ledger.balance()
        if not rendered:
            raise DataError(f"no row is left after rendering\n{dataset.ledger}")
        return rendered

    def _checked(self, ids: Sequence[int]) -> Ids:
        if not ids:
            raise Refusal("the prompt has no tokens")
        bos = self.codec.tokenizer.bos_token_id
        if bos is not None and list(ids[:2]) == [bos, bos]:
            raise Refusal("BOS twice", f"token ids begin {list(ids[:4])}")
        return tuple(ids)

    def fit_prompt(self, record: Record, opened: Opened) -> Opened:
        """The prompt within its limit: a longer one is refused, or cut, as configured."""
        limit = self.max_prompt_length or self.max_length - 1
        ids = opened.ids
        if len(ids) <= limit:
            return opened
        if self.long_prompt == "drop":
            raise Refusal("prompt too long", f"{len(ids)} tokens, limit {limit}")
        keep = self.max_prompt_length or self.max_length // 2
        if isinstance(opened.turns, str):
            head = ids[:1] if ids[0] == self.codec.bos and keep > 1 else ()
            return replace(opened, ids=head + ids[len(ids) - keep + len(head) :])
        turns, kept = keep_end(
            opened.turns,
            keep,
            lambda turns: (
                self.opened(tuple(turns), tools=record.tools, template_kwargs=record.template_kwargs).ids
            ),
        )
        return replace(opened, turns=turns, ids=kept)

    def response(self, record: Record, candidate: Candidate, opened: Opened) -> Answer:
        """The tokens of one answer after a context. Raises Refusal where they cannot be proved."""
        if isinstance(candidate.content, str):
            return self._closed(candidate.content)
        turns = opened.turns
        assert not isinstance(turns, str)
        if self.answers is not None:
            return self.answers.answer(
                turns,
                candidate.messages,
                record.tools,
                record.template_kwargs,
                opened.ids,
                may_diverge=self.allow_template_divergence,
            )
        if len(candidate.messages) > 1:
            raise Refusal(
                "the answer spans several turns",
                f"{len(candidate.messages)} messages: which tokens are the assistant's needs a chat template",
            )
        (answer,) = candidate.messages
        _refuse_what_needs_a_template((answer,), ())
        return self._closed(answer.content if turns[-1].role == "assistant" else " " + answer.content)

    def _closed(self, text: str) -> Answer:
        ids, eos = self.codec.continuation(text), self.codec.eos
        ids = ids if eos is None or ids[-1:] == [eos] else [*ids, eos]
        if eos in ids[:-1]:
            raise Refusal("the answer holds a token that ends it", repr(self.codec.shown([eos])[0]))
        return Answer(tuple(ids), closed=bool(ids) and ids[-1] in self.codec.specials)


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise DataError(f"template_date {text!r} is no day", hint="write YYYY-MM-DD") from None


def _refuse_what_needs_a_template(turns: Sequence[Message], tools: Sequence[Any]) -> None:
    """Raises Refusal for what a plain transcript has no place for."""
    if tools:
        raise Refusal("tools need a chat template")
    if any(call_parts(turn) for turn in turns):
        raise Refusal("tool calls need a chat template")
    if any(map(reasoning_of, turns)):
        raise Refusal("a field of reasoning needs a chat template")
