"""One rendering of a data set: every row rendered or refused, and what the ledger's notes say about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

from equipoise.data.collate import Ids, Response, cut
from equipoise.data.errors import Refusal
from equipoise.data.ledger import Ledger
from equipoise.data.records import Candidate, Context, Record
from equipoise.data.rendering.answer_tokens import Answer
from equipoise.data.rendering.template_probe import Probe
from equipoise.data.rendering.tokens import Codec

SIDES = {"pair": ("chosen", "rejected"), "unpaired": ("completion",), "demonstration": ("completion",)}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A record as tokens: one prompt, shared by all of its responses.

    record        with the context that is left where the prompt was cut
    prompt_ids    read, never scored
    responses     each with at least one scored token; what max_length cut is not finished, and has no EOS
    """

    record: Record
    prompt_ids: Ids
    responses: tuple[Response, ...] = ()

    @property
    def response_ids(self) -> tuple[Ids, ...]:
        """The scored tokens of each response."""
        return tuple(response.ids for response in self.responses)

    @property
    def finished(self) -> tuple[bool, ...]:
        """False for each response that max_length cut."""
        return tuple(response.finished for response in self.responses)


@dataclass(frozen=True)
class Opened:
    """A context as generation is given it.

    turns       the turns that are left, with the system turn merged where that is set; a text is left as it is
    ids         token ids of the prompt, not cut
    unthought   whether the template leaves out the reasoning of earlier turns
    """

    turns: Context
    ids: Ids
    unthought: bool = False


class Renders(Protocol):
    """What a rendering asks of a renderer (`render.Renderer`)."""

    codec: Codec
    max_length: int
    about_template: str
    probe: Probe | None
    merges: bool

    @property
    def turn_ends(self) -> tuple[int, ...]: ...

    @property
    def date(self) -> date | None: ...

    def opened(
        self, context: Context, *, tools: Sequence[Any] = (), template_kwargs: Mapping[str, Any] | None = None
    ) -> Opened: ...

    def fit_prompt(self, record: Record, opened: Opened) -> Opened: ...

    def response(self, record: Record, candidate: Candidate, opened: Opened) -> Answer: ...


def sides_of(record: Record) -> tuple[str, ...]:
    """The name of each answer in reports; all answers of a list are called "answer"."""
    return SIDES.get(record.kind, ("answer",) * len(record.candidates))


class RenderingRun:
    """One rendering of one data set, with the counts for the ledger's notes."""

    def __init__(self, renderer: Renders, ledger: Ledger) -> None:
        self.renderer, self.codec, self.ledger = renderer, renderer.codec, ledger
        self.cut: Counter[str] = Counter()
        self.written: Counter[str] = Counter()  # rendered answers, by side
        self.controls: Counter[str] = Counter()
        self.control_lines: list[str] = []
        self.cut_lines: list[str] = []  # rows whose prompt was cut
        self.scaffolds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()  # rows, by what is said about them
        self.longest_refused = 0

    def row(self, record: Record) -> Rendered | None:
        """The row as tokens; None if it is refused, which the ledger then says."""
        place = record.place
        try:
            self._look_for_controls(record)
            rendered = self._tokens(record)
        except Refusal as refusal:
            self.ledger.refuse(place, refusal)
            return None
        self.counts["done"] += 1
        self.written.update(sides_of(record))
        self.counts["chats"] += record.space == "chat"
        if not all(rendered.finished):
            sides = zip(sides_of(record), rendered.finished, strict=True)
            self.ledger.truncate(place, [side for side, whole in sides if not whole])
        return rendered

    def _tokens(self, record: Record) -> Rendered:
        renderer = self.renderer
        whole = renderer.opened(record.context, tools=record.tools, template_kwargs=record.template_kwargs)
        try:
            opened = renderer.fit_prompt(record, whole)
        except Refusal:
            self.longest_refused = max(self.longest_refused, len(whole.ids))
            raise
        answers = [renderer.response(record, candidate, opened) for candidate in record.candidates]
        if not all(answer.ids for answer in answers):
            raise Refusal("no scored token")
        made = [
            Response(answer.ids, candidate.text, between=answer.between)
            for answer, candidate in zip(answers, record.candidates, strict=True)
        ]
        self._differ(made, "rendering")
        room = renderer.max_length - len(opened.ids)
        short = tuple(cut(response, room) for response in made)
        if not all(response.ids for response in short):
            raise Refusal("no scored token is left after truncation")
        self._differ(short, "truncation")
        self.counts["unthought earlier"] += opened.unthought
        for what in ("diverged", "unthought"):
            self.counts[what] += any(getattr(answer, what) for answer in answers)
        self.counts["unclosed"] += not all(answer.closed for answer in answers)
        self.scaffolds.update({answer.scaffold for answer in answers} - {""})
        self.counts["merged"] += renderer.merges and _has_system(record)
        self.cut.update(side for side, each in zip(sides_of(record), short, strict=True) if not each.finished)
        if opened is not whole:
            self._prompt_cut(record)
            record = record if isinstance(opened.turns, str) else replace(record, context=opened.turns)
        return Rendered(record, opened.ids, short)

    def _prompt_cut(self, record: Record) -> None:
        self.cut_lines.append(record.place.short)
        self.ledger.cut_prompt(record.place)

    @staticmethod
    def _differ(responses: Sequence[Response], after: str) -> None:
        if len({(response.ids, response.between) for response in responses}) < len(responses):
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
        note, counts = self.ledger.note, self.counts
        if counts["chats"]:
            self._report_template()
        if self.codec.eos is None:
            note("the tokenizer has no EOS: answers do not end with one")
        elif counts["unclosed"]:
            note(
                f"{counts['unclosed']:,} rows: no special token closes an answer, so a model cannot learn to end one"
            )
        if self.control_lines:
            shown = self.ledger.max_errors_shown
            tokens = ", ".join(f"{token} ({n:,})" for token, n in self.controls.most_common(shown))
            rows = f"{len(self.control_lines):,} rows contain special-token text"
            note(f"{rows}, which may end a turn early: {tokens}; {self._first(self.control_lines)}")
        if counts["diverged"]:
            note(
                f"the template edits the context in {counts['diverged']:,} of {counts['done']:,} rows (allowed): "
                "their prompts are what generation is given"
            )
        if self.longest_refused:
            note(f"prompt too long: the longest has {self.longest_refused:,} tokens")
        if self.cut_lines:
            note(
                f"{len(self.cut_lines):,} prompts cut to their end (long_prompt: keep_end): "
                f"{self._first(self.cut_lines)}"
            )
        self._report_cuts()

    def _report_template(self) -> None:
        note, counts, renderer = self.ledger.note, self.counts, self.renderer
        note(renderer.about_template)
        probe = renderer.probe
        if probe is None:
            return
        note(probe.sentence())
        if probe.header:
            note(
                f"the template does not open the assistant's turn: {probe.header!r}, which it writes before an answer, "
                "is put behind every prompt"
            )
        for text, count in self.scaffolds.most_common(self.ledger.max_errors_shown):
            note(
                f"the template itself writes {text[:80]!r} before an answer, and it is scored: {count:,} rows"
            )
        if renderer.date is not None:
            note(f"the template writes the date, here {renderer.date} (data.template_date)")
        self._report_end()
        if counts["unthought earlier"]:
            note(f"{counts['unthought earlier']:,} rows: the template drops the reasoning of earlier turns")
        if counts["unthought"]:
            note(
                f"{counts['unthought']:,} rows: the template drops the reasoning of the answer (reasoning: drop)"
            )
        if counts["merged"]:
            note(
                f"{counts['merged']:,} rows: the system turn is put in front of the first question (system_turn: merge)"
            )

    def _report_end(self) -> None:
        codec = self.codec
        other = [codec.shown([index])[0] for index in self.renderer.turn_ends if index != codec.eos]
        if other and codec.eos is not None:
            note = self.ledger.note
            note(
                f"the template closes an answer with {' or '.join(map(repr, other))}, the tokenizer names "
                f"{codec.shown([codec.eos])[0]!r} as its end: sampling stops at either"
            )

    def _first(self, lines: Sequence[str]) -> str:
        return "; ".join(lines[: self.ledger.max_errors_shown])

    def _report_cuts(self) -> None:
        note = self.ledger.note
        if self.cut:
            rates = ", ".join(
                f"{side} {n:,} ({n / self.written[side]:.1%})" for side, n in sorted(self.cut.items())
            )
            note(f"answers cut at max_length {self.renderer.max_length}, without EOS: {rates}")
        if self.cut["chosen"] != self.cut["rejected"]:
            note("chosen and rejected are cut at different rates: the label then also says which is longer")


def _has_system(record: Record) -> bool:
    return not isinstance(record.context, str) and record.context[0].role == "system"
