"""Records: one row of any format as a context (prompt), its candidate answers and their labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from equipoise.data.place import NOWHERE, Place

Kind: TypeAlias = Literal["pair", "unpaired", "demonstration", "prompt", "rank", "scores"]
Space: TypeAlias = Literal["text", "chat"]
# what was measured of a row or of an answer: name -> number or category
Attributes: TypeAlias = "Mapping[str, float | str]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One chat turn. `extra` keeps the other fields of the turn (tool_calls, name, ...) for the template."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """The turn as a chat template reads it."""
        return {"role": self.role, "content": self.content, **self.extra}


# A prompt: plain text, or chat turns. The two spaces never mix within a data set.
Context: TypeAlias = "str | tuple[Message, ...]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One answer: plain text in text space, assistant (and tool) turns in chat space.

    score       scalar judgement, higher is better, if the data carry one
    source      the model or person that wrote it, if the data say so
    attributes  what else was measured of it, such as ratings by aspect: name -> number or category
    """

    content: Context
    score: float | None = None
    source: str | None = None
    attributes: Attributes = field(default_factory=dict, hash=False)

    def with_attributes(self, attributes: Attributes) -> Candidate:
        """The same answer with these attributes in addition; of two values under one name the given one counts."""
        return replace(self, attributes={**self.attributes, **attributes})

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns of a chat answer; a text answer has none."""
        return () if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The answer as an oracle reads it: the text itself, or the assistant's turns joined by a newline.

        A tool call is written as a JSON object {"name", "arguments"} on a line of its own.
        """
        if isinstance(self.content, str):
            return self.content
        return "\n".join(_said(turn) for turn in self.content if turn.role == "assistant")


def _said(turn: Message) -> str:
    calls = turn.extra.get("tool_calls")
    made = [_call(call) for call in calls] if isinstance(calls, list) else []
    return "\n".join([turn.content, *made] if turn.content or not made else made)


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if isinstance(function, Mapping):
        function = {key: function[key] for key in ("name", "arguments") if key in function}
    return json.dumps(function, ensure_ascii=False, default=str)


class Conversation(list[dict[str, Any]]):
    """A chat context as an oracle sees it: a list of messages, with what belongs to the conversation as a whole.

    tools             tool schemas that the assistant may call
    template_kwargs   chat_template_kwargs of the row, such as {"enable_thinking": False}
    """

    def __init__(
        self,
        turns: Iterable[dict[str, Any]],
        tools: Sequence[Any] = (),
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(turns)
        self.tools, self.template_kwargs = tuple(tools), dict(template_kwargs or {})

    def __repr__(self) -> str:
        return f"Conversation({list(self)!r}, tools={self.tools!r}, template_kwargs={self.template_kwargs!r})"


def oracle_context(
    context: Context, tools: Sequence[Any] = (), template_kwargs: Mapping[str, Any] | None = None
) -> str | list[dict[str, Any]]:
    """A context as an oracle sees it: plain text, or a list of {"role", "content"} and what else a turn has, such as
    `tool_calls`. With tools or template settings it is a Conversation, which carries them."""
    if isinstance(context, str):
        return context
    turns = [turn.as_dict() for turn in context]
    return Conversation(turns, tools, template_kwargs) if tools or template_kwargs else turns


def tools_of(context: Any) -> tuple[Any, ...]:
    """The tools that belong to an oracle's context."""
    return context.tools if isinstance(context, Conversation) else ()


def template_kwargs_of(context: Any) -> dict[str, Any]:
    """The template settings that belong to an oracle's context."""
    return context.template_kwargs if isinstance(context, Conversation) else {}


def plain(context: Context) -> Any:
    """A context or an answer as JSON-serialisable data, with every field."""
    return context if isinstance(context, str) else [turn.as_dict() for turn in context]


def hashable(context: Context) -> Any:
    """A context or an answer, with every field, as what can be hashed and compared fast."""
    if isinstance(context, str):
        return context
    return tuple((turn.role, turn.content, _canonical(turn.extra) if turn.extra else "") for turn in context)


def digest(value: Any) -> str:
    """Stable 16-digit hash of JSON-serialisable data; the same in every process and on every machine."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:16]


MASK = (1 << 64) - 1  # makes a hash of Python, which has a sign, a number of 64 bits
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, default=str).encode


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row of preference data, immutable.

    kind        "pair": candidates (preferred, other); "unpaired": one candidate and `desirable`;
                "demonstration": one candidate to imitate; "prompt": no candidate;
                "rank" and "scores": lists, every candidate with a score.
    prob        P(candidate 0 beats candidate 1), in [0, 1]
    margin      by how much the preferred answer is better, in the units of the source; None if unknown
    rationale   why the preferred answer is better, if the data say so
    user        id of the annotator whose judgement the row is; "" if the data name none
    attributes  what was measured of the row as a whole: name -> number or category
    group       hash of the context: splits and resampling are by group, never by row
    place       origin of the row (file, row, line), named in every message about it
    id          the data's own, else the place's: no other row has it
    extra       all other columns: kept, never used
    """

    context: Context
    candidates: tuple[Candidate, ...] = ()
    kind: Kind = "pair"
    prob: float = 1.0
    weight: float = 1.0
    margin: float | None = None
    desirable: bool | None = None
    rationale: str = ""
    user: str = ""
    attributes: Attributes = field(default_factory=dict)
    tools: tuple[Any, ...] = ()
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    place: Place = NOWHERE
    id: str = ""
    group: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", self.place.id)
        if not self.group:
            object.__setattr__(self, "group", digest(plain(self.context)))

    @property
    def space(self) -> Space:
        """ "text" (plain strings, no chat template) or "chat" (messages)."""
        return "text" if isinstance(self.context, str) else "chat"

    def identity(self) -> int:
        """Hash of 64 bits of every field that training reads: equal for duplicate rows, and of this process only."""
        rest = _canonical([self.tools, self.template_kwargs]) if self.tools or self.template_kwargs else ""
        label: tuple[Any, ...] = (self.prob, self.weight, self.margin, self.desirable, self.rationale, rest)
        answers = [(hashable(candidate.content), candidate.score) for candidate in self.candidates]
        measured = [self.attributes, *(candidate.attributes for candidate in self.candidates)]
        if self.user or any(measured):
            label = (*label, self.user, _canonical([dict(attributes) for attributes in measured]))
        return hash((hashable(self.context), label, *answers)) & MASK

    def as_row(self) -> dict[str, Any]:
        """The record as a row that `read` accepts: the inverse of reading, for writing JSON lines."""
        row: dict[str, Any] = {"id": self.id, "prompt": plain(self.context)}
        answers = [plain(candidate.content) for candidate in self.candidates]
        if self.kind == "pair":
            row |= {"chosen": answers[0], "rejected": answers[1]}
            row |= {} if self.prob == 1.0 else {"prob": self.prob}
            scores = [candidate.score for candidate in self.candidates]
            if None not in scores:
                row |= {"score_chosen": scores[0], "score_rejected": scores[1]}
            row |= {"rationale": self.rationale} if self.rationale else {}
        elif self.kind in ("rank", "scores"):
            row |= {"responses": answers, "rewards": [candidate.score for candidate in self.candidates]}
        elif self.kind == "demonstration":
            row |= {"completion": answers[0]}
        elif self.kind == "unpaired":
            row |= {"completion": answers[0], "label": self.desirable}
        row |= {} if self.margin is None else {"margin": self.margin}
        row |= {} if self.weight == 1.0 else {"weight": self.weight}
        row |= {"user_id": self.user} if self.user else {}
        row |= {"attributes": dict(self.attributes)} if self.attributes else {}
        if any(candidate.attributes for candidate in self.candidates):
            row["response_attributes"] = [dict(candidate.attributes) for candidate in self.candidates]
        row |= {"tools": list(self.tools)} if self.tools else {}
        row |= {"chat_template_kwargs": dict(self.template_kwargs)} if self.template_kwargs else {}
        return dict(self.extra) | row
