"""Scored tokens of a chat answer: its content as the template writes it, and the one token that closes it.

The whole conversation is rendered and tokenised once. What generation is given must be its beginning, token by token;
the content must stand behind it, proved by `written_parts`; and the first special token after the content closes it.
Everything else (context, headers, what follows the closing token) is never scored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from equipoise.data.collate import Ids
from equipoise.data.errors import Refusal
from equipoise.data.formats.prompt_cut import common_prefix
from equipoise.data.records import Message
from equipoise.data.rendering.template_probe import Probe
from equipoise.data.rendering.templates import ChatTemplate
from equipoise.data.rendering.tokens import Codec
from equipoise.data.rendering.written_parts import (
    Part,
    Span,
    WrittenParts,
    call_parts,
    pieces_of,
    reasoning_of,
)

_TAGGED = re.compile(r"\s*[<\[{].*[>\]}]\s*", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """An answer as tokens.

    ids         scored tokens
    between     tokens that are read and not scored, such as a tool's result: (number of scored tokens before, ids)
    closed      whether a special token closes it
    diverged    whether the template renders the prompt otherwise once the answer follows
    scaffold    text of the template's own among the scored tokens, such as an empty block of reasoning
    unthought   whether the answer's reasoning is not among them
    """

    ids: Ids
    between: tuple[tuple[int, Ids], ...] = ()
    closed: bool = True
    diverged: bool = False
    scaffold: str = ""
    unthought: bool = False


@dataclass(frozen=True)
class _Whole:
    """A whole conversation, rendered: turns, text, ids, and where each content stands (None: not known)."""

    turns: tuple[Message, ...]
    text: str
    ids: list[int]
    spans: list[Span] | None


class AnswerTokens:
    """Makes and proves the scored tokens of answers in a chat template.

    turn_ends   ids of the tokens with which the template was seen to close an answer; grows with the rows
    """

    def __init__(self, template: ChatTemplate, probe: Probe, codec: Codec, *, keep_reasoning: bool) -> None:
        self.template, self.probe, self.codec = template, probe, codec
        self.keep_reasoning = keep_reasoning
        self.parts = WrittenParts()
        self.turn_ends: set[int] = set() if probe.turn_end is None else {probe.turn_end}
        self._special = re.compile("|".join(map(re.escape, codec.special_texts)) or r"(?!)")

    def context(
        self, turns: Sequence[Message], tools: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[str, list[Part]]:
        """(text that generation is given, parts of earlier reasoning that the template leaves out).

        Raises Refusal if the template drops anything else of the context.
        """
        text = self.template.context(turns, tools, kwargs)
        lost, _ = self.parts.lost(turns, tools, text, self._opened(kwargs), f"open {kwargs}")
        _refuse(lost, reasoning=False)
        return text, lost

    def answer(
        self,
        turns: Sequence[Message],
        said: Sequence[Message],
        tools: Sequence[Any],
        kwargs: Mapping[str, Any],
        prompt: Ids,
        *,
        may_diverge: bool,
    ) -> Answer:
        """The tokens of an answer of one or several turns after a context, whose prompt's ids are known.

        Raises Refusal with the reason wherever they cannot be proved.
        """
        first = len(turns)
        prefix = ""
        if turns[-1].role == "assistant":  # the answer continues this turn
            if len(said) > 1:
                raise Refusal("an answer of several turns continues a turn")
            prefix, first = turns[-1].content, first - 1
            said = [
                replace(said[0], content=prefix + said[0].content, extra={**turns[-1].extra, **said[0].extra})
            ]
        whole, unthought = self._whole((*turns[:first], *said), first, tools, kwargs)
        if len(said) == 1:
            opened = self.template.context(turns, tools, kwargs)
            begin = len(opened) if whole.text.startswith(opened) else None
            one = self._single(whole, first, begin, prompt, len(prefix), may_diverge)
            return replace(one, unthought=unthought)
        return replace(self._several(whole, first, tools, kwargs), unthought=unthought)

    def _opened(self, kwargs: Mapping[str, Any]) -> Callable[[Sequence[Message], Sequence[Any]], str]:
        return lambda turns, tools: self.template.context(turns, tools, kwargs)

    def _whole(
        self, turns: tuple[Message, ...], first: int, tools: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[_Whole, bool]:
        """(the conversation rendered and closed, whether an answer's reasoning is missing)."""
        text = self.template.whole(turns, tools, kwargs)
        lost, spans = self.parts.lost(
            turns, tools, text, lambda t, s: self.template.whole(t, s, kwargs), f"closed {kwargs}"
        )
        own = [part for part in lost if part.turn >= first]  # the prompt shows the others, or the two differ
        _refuse(own, reasoning=self.keep_reasoning)
        return _Whole(turns, text, self.codec.ids(text), spans), bool(own)

    def _single(
        self, whole: _Whole, turn: int, begin: int | None, prompt: Ids, prefix: int, may_diverge: bool
    ) -> Answer:
        joined = tuple(whole.ids[: len(prompt)]) == prompt and begin is not None
        if not joined and not may_diverge:
            self._refuse_divergence(whole, prompt, begin)
        start = begin if begin is not None else self._start(whole, turn, prefix)
        end = self._end(whole, turn, start, prefix)
        close = self._close(whole.text, end, len(whole.text))
        return self._cut(whole, start, end, close, whole.ids[len(prompt) :] if joined else None)

    def _several(self, whole: _Whole, first: int, tools: Sequence[Any], kwargs: Mapping[str, Any]) -> Answer:
        """Every assistant turn, each after what generation would be given there; the rest is read only."""
        places = [k for k in range(first, len(whole.turns)) if whole.turns[k].role == "assistant"]
        if any(whole.turns[k - 1].role == "assistant" for k in places) or places[-1] + 1 != len(whole.turns):
            raise Refusal(
                "the answer spans several turns", "its turns must alternate and end with the assistant"
            )
        openings = [self.template.context(whole.turns[:k], tools, kwargs) for k in places]
        ids: list[int] = []
        between: list[tuple[int, Ids]] = []
        done, scaffolds, closed = 0, [], True
        for number, (k, opened) in enumerate(zip(places, openings, strict=True)):
            before = self.codec.ids(opened)
            if not whole.text.startswith(opened) or whole.ids[: len(before)] != before or len(before) < done:
                raise Refusal(
                    "the answer spans several turns",
                    f"the template renders what precedes turn {k} otherwise once more turns follow",
                )
            limit = len(openings[number + 1]) if number + 1 < len(openings) else len(whole.text)
            end = self._end(whole, k, len(opened))
            close = self._close(whole.text, end, limit)
            if close is None:
                raise Refusal("the answer spans several turns", f"no special token closes turn {k}")
            one = self._cut(whole, len(opened), end, close, whole.ids[len(before) :])
            if number:
                between.append((len(ids), tuple(whole.ids[done : len(before)])))
            ids += one.ids
            done = len(before) + len(one.ids)
            scaffolds.append(one.scaffold)
            closed &= one.closed
        return Answer(tuple(ids), tuple(between), closed, False, next(filter(None, scaffolds), ""))

    def _refuse_divergence(self, whole: _Whole, prompt: Ids, begin: int | None) -> None:
        shared = common_prefix(prompt, whole.ids)
        first, second = (
            repr(self.codec.shown(ids[shared : shared + 1])[0]) if shared < len(ids) else "the end"
            for ids in (prompt, whole.ids)
        )
        raise Refusal(
            "the template edits the context",
            f"token {shared} is {first} when the answer is to be written, {second} when it follows; "
            "allow_template_divergence accepts the prompt as generation is given it",
        )

    def _start(self, whole: _Whole, turn: int, prefix: int) -> int:
        """Where the answer begins in a conversation whose context is rendered otherwise: at its content, or at what
        the template was seen to write in front of an answer."""
        if whole.spans is None or prefix:
            raise Refusal("the template edits the context", "and where the answer begins cannot be proved")
        begin = whole.spans[turn][0]
        lead = self.probe.lead
        return begin - len(lead) if lead and whole.text[:begin].endswith(lead) else begin

    def _end(self, whole: _Whole, turn: int, start: int, prefix: int = 0) -> int:
        """Where the last part of an answer ends. Raises Refusal for a part that is not behind `start`.

        prefix   characters of its content that stand in the context already
        """
        said = whole.turns[turn]
        end = start
        if whole.spans is not None and said.content.strip():
            begin, end = whole.spans[turn]
            if end < start:
                raise Refusal("the template drops the content of the answer")
            _refuse_words(whole.text[start:begin].replace(reasoning_of(said).strip(), ""))
        elif said.content.strip():
            for piece in filter(None, pieces_of(said.content[prefix:])):
                end = self._found(whole.text, piece, end)
        for text in call_parts(said):
            place = whole.text.find(text.strip(), end)
            end = place + len(text.strip()) if place >= 0 else end
        return end

    def _found(self, text: str, piece: str, start: int) -> int:
        """Where a piece of an answer ends that follows `start`; without it, `start`, if reasoning may be dropped."""
        place = text.find(piece, start)
        if place >= 0:
            _refuse_words(text[start:place])
            return place + len(piece)
        if self.keep_reasoning:
            raise Refusal("the template drops a part of the answer", repr(piece[:80]))
        return start

    def _close(self, text: str, end: int, limit: int) -> tuple[int, int] | None:
        """(place, id) of the special token that closes what ends at `end`: the first at which generation stops, else
        the first; None without one, or where it opens the next turn instead."""
        found = [
            (m.start(), self.codec.special_texts[m[0]]) for m in self._special.finditer(text, end, limit)
        ]
        stops = self.turn_ends | {self.codec.eos}
        known = next((each for each in found if each[1] in stops), None)
        if known is not None or self.probe.turn_end is None:
            return known
        return found[0] if found else None

    def _cut(
        self, whole: _Whole, start: int, end: int, close: tuple[int, int] | None, ids: list[int] | None
    ) -> Answer:
        """The tokens of whole.text from `start` to the closing token; `ids` are those behind the prompt, where they
        continue it token by token."""
        codec, diverged = self.codec, ids is None
        body = whole.text[start : close[0] if close else end]
        if close is None:
            cut = codec.ids(whole.text[:end])
            known = ids is not None and cut == whole.ids[: len(cut)]
            scored = cut[len(whole.ids) - len(ids or ()) :] if known else codec.continuation(body)
        else:
            said = codec.special_of(close[1])
            ids = codec.continuation(body + said) if ids is None else ids
            place = self._nth_special(ids, len(self._special.findall(body)))
            if place is None or ids[place] != close[1]:
                raise Refusal(
                    "the scored tokens cannot be proved", f"{said!r} is not where it closes the answer"
                )
            scored = ids[: place + 1]
            self.turn_ends.add(close[1])
        inside = scored[:-1] if close else scored
        if close and not any(map(call_parts, whole.turns)):
            _refuse_words(whole.text[end : close[0]])
        self._prove(inside, body)
        scaffold = self._scaffold(whole, start, end)
        return Answer(tuple(scored), closed=close is not None, diverged=diverged, scaffold=scaffold)

    def _nth_special(self, ids: Sequence[int], number: int) -> int | None:
        marks = self.codec.special_texts.values()
        places = [i for i, token in enumerate(ids) if token in marks]
        return places[number] if number < len(places) else None

    def _prove(self, inside: Sequence[int], body: str) -> None:
        """The tokens decode to the text, as the tokenizer writes it, and none of them ends the turn."""
        codec = self.codec
        stop = next((token for token in inside if token in self.turn_ends or token == codec.eos), None)
        if stop is not None:
            raise Refusal("the answer holds a token that ends it", repr(codec.shown([stop])[0]))
        decoded = codec.text(inside, specials=True)
        if decoded != body and _squashed(decoded) != _squashed(
            codec.text(codec.continuation(body), specials=True)
        ):
            raise Refusal(
                "the scored tokens cannot be proved", f"they read {decoded[:80]!r}, not {body[:80]!r}"
            )

    def _scaffold(self, whole: _Whole, start: int, end: int) -> str:
        """What the template adds in front of a content whose place is known, without outer space and reasoning."""
        for turn, (begin, finish) in zip(whole.turns, whole.spans or (), strict=False):
            if start <= begin < finish <= end and not reasoning_of(turn):
                return whole.text[start:begin].strip()
        return ""


def _refuse_words(between: str) -> None:
    """Raises Refusal for text of the template's own in an answer, unless it is space or stands in tags, as an empty
    <think> block or the name of a channel does."""
    if between.strip() and not _TAGGED.fullmatch(between):
        raise Refusal("the template writes words of its own into the answer", repr(between[:80]))


def _squashed(text: str) -> str:
    return "".join(text.split())


def _refuse(lost: Sequence[Part], *, reasoning: bool) -> None:
    """Raises Refusal for the first part that may not be missing; reasoning only if `reasoning`."""
    for part in lost:
        if part.kind == "reasoning" and not reasoning:
            continue
        if part.kind == "order":
            raise Refusal(
                "the template writes turns in another order", f"turn {part.turn} before an earlier one"
            )
        names = {"content": "the content of a turn", "tool": "a tool", "tool call": "a tool call"}
        what = names.get(part.kind, "the reasoning of the answer")
        where = "" if part.turn < 0 else f"turn {part.turn}: "
        hint = "; reasoning=drop trains on what is left" if part.kind == "reasoning" else ""
        raise Refusal(f"the template drops {what}", f"{where}{part.text[:80]!r}{hint}")
