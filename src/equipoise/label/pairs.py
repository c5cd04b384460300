"""Pairs of responses to compare: of pairs, of lists, or of two systems' files of answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.data.reading.read import Dataset
from equipoise.data.records import (
    Candidate,
    Conversation,
    Message,
    Record,
    digest,
    plain,
)
from equipoise.label.errors import LabelError
from equipoise.play.seeds import Seeds

SYSTEMS = tuple(
    names
    for word in ("model", "system", "source", "generator", "policy")
    for names in ((f"chosen_{word}", f"rejected_{word}"), (f"{word}_chosen", f"{word}_rejected"))
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two responses to one prompt, as plain data.

    context   the prompt: text, or a list of chat turns
    answers   each text, or a list of chat turns
    systems   who wrote each, if the data say so; raters never see it
    recorded  P(first beats second) as the data record it, if they do
    """

    context: Any
    answers: tuple[Any, Any]
    systems: tuple[str | None, str | None] = (None, None)
    recorded: float | None = None
    tools: tuple[Any, ...] = ()
    template_kwargs: Mapping[str, Any] | None = None
    id: str = ""

    @property
    def key(self) -> str:
        """Hash of the prompt and both answers, in whichever order."""
        answers = sorted(self.answers, key=lambda answer: json.dumps(answer, sort_keys=True, default=str))
        return digest([self.context, list(self.tools), dict(self.template_kwargs or {}), answers])

    @property
    def group(self) -> str:
        """Hash of the prompt: pairs that share it are no independent draws."""
        return digest(self.context)

    @property
    def texts(self) -> tuple[str, str]:
        """Both answers as an oracle reads them."""
        first, second = (text_of(answer) for answer in self.answers)
        return first, second

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The prompt as it is shown: (role, text) of each turn; a plain text has no role."""
        if isinstance(self.context, str):
            return [("", self.context)]
        return [(str(turn["role"]), text_of([{**turn, "role": "assistant"}])) for turn in self.context]

    @property
    def prompt(self) -> Any:
        """The prompt as an oracle reads it."""
        if isinstance(self.context, str) or not (self.tools or self.template_kwargs):
            return self.context
        return Conversation(self.context, self.tools, self.template_kwargs)

    def as_line(self) -> dict[str, Any]:
        """The pair as JSON-serialisable data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Pair:
        """The inverse of `as_line`. Raises KeyError or TypeError for a line that holds no pair."""
        first, second = line["answers"]
        one, other = line["systems"]
        rest = {name: line[name] for name in ("context", "recorded", "template_kwargs", "id")}
        return cls(answers=(first, second), systems=(one, other), tools=tuple(line["tools"]), **rest)


def text_of(answer: Any) -> str:
    """An answer of plain data as an oracle reads it."""
    if isinstance(answer, str):
        return answer
    named = ("role", "content")
    turns = [
        Message(
            role=turn["role"],
            content=turn["content"] or "",
            extra={name: value for name, value in turn.items() if name not in named},
        )
        for turn in answer
    ]
    return Candidate(content=tuple(turns)).text


def of_dataset(dataset: Dataset, seed: int) -> tuple[list[Pair], list[str]]:
    """(pairs, notes) of a data set of pairs, or of lists, of each of which two answers are drawn by seed.

    Raises LabelError for data of another kind.
    """
    if dataset.kind == "pair":
        return _distinct(_pair(record, 0, 1, record.prob) for record in dataset.records)
    if dataset.kind not in ("rank", "scores"):
        raise LabelError(
            f"these rows are of kind {dataset.kind}: people compare pairs or lists of answers, or two files of answers "
            "(--a FILE --b FILE)"
        )
    drawn = []
    for record in dataset.records:
        draw = Seeds(seed).generator("two of a list", record.id)
        i, j = sorted(draw.choice(len(record.candidates), 2, replace=False).tolist())
        drawn.append(_pair(record, i, j, _of_scores(record, i, j)))
    return _distinct(drawn)


def of_two(a: Dataset, b: Dataset, names: tuple[str, str]) -> tuple[list[Pair], list[str]]:
    """(pairs, notes) of two systems' answers, joined by prompt; the k-th answer of one meets the k-th of the other.

    Raises LabelError for rows that are no answers, and if no prompt is in both files.
    """
    for dataset, name in zip((a, b), names, strict=True):
        if dataset.kind != "demonstration":
            raise LabelError(
                f"{name}: rows of kind {dataset.kind}; a file of answers has a prompt and one answer in each row"
            )
    if a.space != b.space:
        raise LabelError(f"{names[0]} holds {a.space} and {names[1]} {b.space}: their prompts never meet")
    sides: list[dict[str, list[Record]]] = []
    for dataset in (a, b):
        by_prompt: dict[str, list[Record]] = defaultdict(list)
        for record in dataset.records:
            by_prompt[record.group].append(record)
        sides.append(by_prompt)
    met = [
        (one, other)
        for group, answers in sides[0].items()
        for one, other in zip(answers, sides[1].get(group, ()), strict=False)
    ]
    if not met:
        raise LabelError(f"{names[0]} and {names[1]} share no prompt")
    alone = [len(dataset) - len(met) for dataset in (a, b)]
    pairs, notes = _distinct(
        Pair(
            context=plain(one.context),
            answers=(plain(one.candidates[0].content), plain(other.candidates[0].content)),
            systems=names,
            tools=one.tools,
            template_kwargs=dict(one.template_kwargs),
            id=one.id,
        )
        for one, other in met
    )
    if any(alone):
        notes.append(
            f"answers without one to meet: {alone[0]:,} of {names[0]}, {alone[1]:,} of {names[1]}; not shown"
        )
    return pairs, notes


def drawn(pairs: Sequence[Pair], count: int | None, seed: int) -> list[Pair]:
    """At most `count` of the pairs, drawn by seed, in their order."""
    if count is None or count >= len(pairs):
        return list(pairs)
    chosen = Seeds(seed).generator("pairs shown").choice(len(pairs), count, replace=False)
    return [pairs[i] for i in sorted(chosen.tolist())]


def _systems(record: Record, i: int, j: int) -> tuple[str | None, str | None]:
    """Who wrote the two answers: as the candidates say, or for a pair two columns such as `chosen_model`."""
    one, other = record.candidates[i].source, record.candidates[j].source
    named = [names for names in SYSTEMS if all(isinstance(record.extra.get(name), str) for name in names)]
    if record.kind != "pair" or not named or (one is not None and other is not None):
        return one, other
    return record.extra[named[0][0]], record.extra[named[0][1]]


def _pair(record: Record, i: int, j: int, recorded: float | None) -> Pair:
    one, other = record.candidates[i], record.candidates[j]
    return Pair(
        context=plain(record.context),
        answers=(plain(one.content), plain(other.content)),
        systems=_systems(record, i, j),
        recorded=recorded,
        tools=record.tools,
        template_kwargs=dict(record.template_kwargs),
        id=record.id,
    )


def _of_scores(record: Record, i: int, j: int) -> float | None:
    one, other = record.candidates[i].score, record.candidates[j].score
    return None if one is None or other is None else (1.0 if one > other else 0.0 if one < other else 0.5)


def _distinct(pairs: Iterable[Pair]) -> tuple[list[Pair], list[str]]:
    found: dict[str, Pair] = {}
    equal = again = 0
    for pair in pairs:
        if pair.texts[0] == pair.texts[1]:
            equal += 1
        elif pair.key in found:
            again += 1
        else:
            found[pair.key] = pair
    if not found:
        raise LabelError("there is nothing to compare: the two answers of every pair are equal")
    notes = [f"{equal:,} pairs of equal answers are not shown"] if equal else []
    return list(found.values()), notes + ([f"{again:,} pairs are there already"] if again else [])
