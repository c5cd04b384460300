"""Tokenisation of prompts and answers, the only place where text becomes tokens: joins, BOS, EOS, templates, limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from equipoise.data.collate import Prompt, Response
from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.parse_values import messages_of
from equipoise.data.formats.prompt_cut import common_prefix
from equipoise.data.ledger import Ledger
from equipoise.data.read import Dataset
from equipoise.data.records import Candidate, Context, Message, Record
from equipoise.data.templates import plain_transcript, resolve
from equipoise.data.tokens import Codec, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Rendered", "Renderer", "load_tokenizer"]

SIDES = {"pair": ("chosen", "rejected"), "unpaired": ("completion",), "demonstration": ("completion",)}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A record as tokens: one prompt, shared by all of its responses.

    prompt_ids    read, never scored         response_ids  scored, each at least one token
    finished      False where max_length cut the response, which then has no EOS
    """

    record: Record
    prompt_ids: tuple[int, ...]
    response_ids: tuple[tuple[int, ...], ...]
    finished: tuple[bool, ...]


class Renderer:
    """Renders records as token ids with a tokenizer; needs no model.

    template           "auto": the tokenizer's chat template, or the plain transcript when it has none;
                       "tokenizer", "plain", Jinja text or the path of a Jinja file
    max_length         most tokens of prompt and response together
    max_prompt_length  most tokens of the prompt; None leaves at least one token for the response
    long_prompt        "drop" refuses rows with a longer prompt; "keep_end" keeps BOS and its last
                       max_prompt_length (else max_length // 2) tokens
    allow_template_divergence
                       accept a template that renders the context differently once the answer follows

    Chat: the full conversation is rendered and tokenised once, and the context rendered for generation must
    be a prefix of it, token by token. Text and the plain transcript: prompt and answer are tokenised apart,
    BOS on the prompt only, no dummy space on the answer, EOS after it.

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
    ) -> None:
        if max_length < 2 or not 0 < (max_prompt_length or 1) < max_length:
            raise DataError(
                f"max_length {max_length}, max_prompt_length {max_prompt_length}: no room for an answer",
                hint="max_prompt_length must be smaller than max_length",
            )
        if long_prompt not in ("drop", "keep_end"):
            raise DataError(f"long_prompt {long_prompt!r} is unknown", hint="use drop or keep_end")
        self.codec = Codec(tokenizer)
        self.max_length, self.max_prompt_length = max_length, max_prompt_length
        self.long_prompt, self.allow_template_divergence = long_prompt, allow_template_divergence
        self.template, self.about_template = resolve(template, tokenizer)

    def prompt(
        self,
        context: Context | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] = (),
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[int, ...]:
        """The prompt's token ids, not cut. Raises Refusal for a context that the template cannot render."""
        if isinstance(context, str):
            return self._checked(self.codec.opening(context))
        turns = [t if isinstance(t, Message) else messages_of(t, "context")[0] for t in context]
        if self.template is None:
            return self._checked(self.codec.opening(plain_transcript(turns)))
        return self._checked(self.codec.ids(self.template.context(turns, tools, template_kwargs)))

    def answer(self, prompt: Prompt, text: str) -> Response:
        """Renders another answer to an already rendered prompt; cut at `max_length`."""
        turns = prompt.context if isinstance(prompt.context, str) else messages_of(prompt.context, "context")
        content = text if isinstance(turns, str) else (Message(role="assistant", content=text),)
        whole = self.prompt(prompt.context)
        ids, _ = self.response(Record(context=turns), Candidate(content=content), whole)
        room = self.max_length - len(prompt.ids)
        return Response(tuple(ids[:room]), text, finished=len(ids) <= room)

    def text(self, ids: Sequence[int]) -> str:
        """The text of a response, without special tokens."""
        return self.codec.text(ids)

    def render(self, dataset: Dataset) -> list[Rendered]:
        """Renders the rows that can be rendered; the others are entered in the ledger as refused.

        Raises DataError when no row is left, or (strict) for the first row that cannot be rendered.
        """
        run = _Run(self, dataset.ledger)
        rendered = [done for record in dataset.records if (done := run.row(record))]
        run.report()
        dataset.ledger.balance()
        if not rendered:
            raise DataError(f"no row is left after rendering\n{dataset.ledger}")
        return rendered

    def _checked(self, ids: Sequence[int]) -> tuple[int, ...]:
        if not ids:
            raise Refusal("the prompt has no tokens")
        bos = self.codec.tokenizer.bos_token_id
        if bos is not None and list(ids[:2]) == [bos, bos]:
            raise Refusal("BOS twice", f"token ids begin {list(ids[:4])}")
        return tuple(ids)

    def fit_prompt(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """The prompt within its limit: a longer one is refused, or its end kept, as configured."""
        limit = self.max_prompt_length or self.max_length - 1
        if len(ids) <= limit:
            return ids
        if self.long_prompt == "drop":
            raise Refusal("prompt too long", f"{len(ids)} tokens, limit {limit}")
        keep = self.max_prompt_length or self.max_length // 2
        head = ids[:1] if ids[0] == self.codec.bos and keep > 1 else ()
        return head + ids[len(ids) - keep + len(head) :]

    def response(
        self, record: Record, candidate: Candidate, prompt: tuple[int, ...]
    ) -> tuple[list[int], bool]:
        """(ids, diverged) of one answer after the uncut prompt; diverged: the template edits the context."""
        if isinstance(candidate.content, str):
            return self._closed(candidate.content), False
        if len(candidate.messages) > 1:
            raise Refusal(
                "the answer spans several turns",
                f"{len(candidate.messages)} messages: which tokens are the assistant's cannot be proved",
            )
        (answer,) = candidate.messages
        turns = record.context
        assert not isinstance(turns, str)
        prefilled = turns[-1].role == "assistant"
        if self.template is None:
            if answer.extra.get("tool_calls"):
                raise Refusal("tool calls need a chat template")
            return self._closed(answer.content if prefilled else " " + answer.content), False
        if prefilled:
            answer = Message(role="assistant", content=turns[-1].content + answer.content, extra=answer.extra)
            turns = turns[:-1]
        text = self.template.whole((*turns, answer), record.tools, record.template_kwargs)
        return self._after(prompt, text, record)

    def _closed(self, text: str) -> list[int]:
        ids = self.codec.continuation(text)
        return ids if self.codec.eos is None or ids[-1:] == [self.codec.eos] else [*ids, self.codec.eos]

    def _after(self, prompt: tuple[int, ...], text: str, record: Record) -> tuple[list[int], bool]:
        whole = self.codec.ids(text)
        shared = common_prefix(prompt, whole)
        if shared == len(prompt):
            return self._trimmed(whole[shared:]), False
        if not self.allow_template_divergence:
            first, second = (
                repr(self.codec.shown(ids[shared : shared + 1])[0]) if shared < len(ids) else "the end"
                for ids in (prompt, whole)
            )
            raise Refusal(
                "the template edits the context",
                f"token {shared} is {first} when the answer is to be written, {second} when it follows",
            )
        assert self.template is not None and not isinstance(record.context, str)
        before = self.template.context(record.context, record.tools, record.template_kwargs)
        if text.startswith(before):  # only a token spans the join: cut the text, as generation would
            return self._trimmed(self.codec.continuation(text[len(before) :])), True
        return self._trimmed(whole[shared:]), True

    def _trimmed(self, ids: list[int]) -> list[int]:
        """The answer up to the special token that closes it: white space after it is never generated."""
        last = next((i for i in range(len(ids) - 1, -1, -1) if ids[i] in self.codec.specials), None)
        return ids if last is None or self.codec.text(ids[last + 1 :]).strip() else ids[: last + 1]


def sides_of(record: Record) -> tuple[str, ...]:
    """The name of each answer in reports; all answers of a list are called "answer"."""
    return SIDES.get(record.kind, ("answer",) * len(record.candidates))


class _Run:
    """One rendering of one data set, with the counts for the ledger's notes."""

    def __init__(self, renderer: Renderer, ledger: Ledger) -> None:
        self.renderer, self.codec, self.ledger = renderer, renderer.codec, ledger
        self.cut: Counter[str] = Counter()
        self.written: Counter[str] = Counter()  # rendered answers, by side
        self.controls: Counter[str] = Counter()
        self.control_lines: list[str] = []
        self.done = self.diverged = self.unclosed = self.chats = self.longest_refused = 0

    def row(self, record: Record) -> Rendered | None:
        place = record.place
        try:
            self._look_for_controls(record)
            rendered = self._tokens(record)
        except Refusal as refusal:
            self.ledger.refuse(place, refusal)
            return None
        self.done += 1
        self.written.update(sides_of(record))
        self.chats += record.space == "chat"
        if not all(rendered.finished):
            sides = zip(sides_of(record), rendered.finished, strict=True)
            self.ledger.truncate(place, [side for side, whole in sides if not whole])
        return rendered

    def _tokens(self, record: Record) -> Rendered:
        renderer = self.renderer
        whole = renderer.prompt(record.context, tools=record.tools, template_kwargs=record.template_kwargs)
        try:
            prompt = renderer.fit_prompt(whole)
        except Refusal:
            self.longest_refused = max(self.longest_refused, len(whole))
            raise
        responses = [renderer.response(record, candidate, whole) for candidate in record.candidates]
        ids = [tuple(response) for response, _ in responses]
        if not all(ids):
            raise Refusal("no scored token")
        self._differ(ids, "rendering")
        room = renderer.max_length - len(prompt)
        finished = tuple(len(response) <= room for response in ids)
        cut = tuple(response[:room] for response in ids)
        self._differ(cut, "truncation")
        self.diverged += any(diverged for _, diverged in responses)
        self.unclosed += any(response[-1] not in self.codec.specials for response in ids)
        self.cut.update(side for side, whole in zip(sides_of(record), finished, strict=True) if not whole)
        return Rendered(record, prompt, cut, finished)

    @staticmethod
    def _differ(ids: Sequence[tuple[int, ...]], after: str) -> None:
        if len(set(ids)) < len(ids):
            raise Refusal(f"chosen equals rejected after {after}")

    def _look_for_controls(self, record: Record) -> None:
        contents = (record.context, *(candidate.content for candidate in record.candidates))
        texts = [c for c in contents if isinstance(c, str)]
        texts += [turn.content for c in contents if not isinstance(c, str) for turn in c]
        present = list(dict.fromkeys(token for text in texts for token in self.codec.controls(text)))
        if not present:
            return
        if self.ledger.strict:
            raise Refusal("special-token text in the data", ", ".join(present))
        self.controls.update(present)
        self.control_lines.append(record.place.short)

    def report(self) -> None:
        """Adds the notes of this run to the ledger."""
        note, shown = self.ledger.note, self.ledger.max_errors_shown
        if self.chats:
            note(self.renderer.about_template)
        if self.codec.eos is None:
            note("the tokenizer has no EOS: answers do not end with one")
        elif self.unclosed:
            note(
                f"{self.unclosed:,} rows: no special token closes an answer, so a model cannot learn to end one"
            )
        if self.control_lines:
            tokens = ", ".join(f"{token} ({n:,})" for token, n in self.controls.most_common(shown))
            lines = "; ".join(self.control_lines[:shown])
            count = f"{len(self.control_lines):,} rows contain special-token text"
            note(f"{count}, which may end a turn early: {tokens}; {lines}")
        if self.diverged:
            note(f"the template edits the context in {self.diverged:,} of {self.done:,} rows (allowed)")
        if self.longest_refused:
            note(f"prompt too long: the longest has {self.longest_refused:,} tokens")
        self._report_cuts()

    def _report_cuts(self) -> None:
        note = self.ledger.note
        if self.cut:
            rates = ", ".join(
                f"{side} {n:,} ({n / self.written[side]:.1%})" for side, n in sorted(self.cut.items())
            )
            note(f"answers cut at max_length {self.renderer.max_length}, without EOS: {rates}")
        if self.cut["chosen"] != self.cut["rejected"]:
            note("chosen and rejected are cut at different rates: the label then also says which is longer")
