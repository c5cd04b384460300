"""Demonstrations for supervised fine-tuning, out of records of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from equipoise.data.errors import DataError
from equipoise.data.formats.parse_values import messages_of
from equipoise.data.ranked_lists import ordered
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Candidate, Record

Turns = Literal["last", "every"]


def answer_of(record: Record) -> Candidate | None:
    """The answer to imitate: the preferred one of a pair, the best of a list, a desirable or demonstrated one.

    Of a conversation read as a prompt it is what came after; None where there is nothing to imitate.
    """
    if record.kind == "pair":
        return record.candidates[0 if record.prob >= 0.5 else 1]
    if record.kind in ("rank", "scores"):
        return ordered(record).candidates[0]
    if record.kind == "unpaired":
        return record.candidates[0] if record.desirable else None
    if record.kind == "demonstration":
        return record.candidates[0]
    rest = record.extra.get("continuation")
    if isinstance(rest, str) and rest:
        return Candidate(content=rest)
    return Candidate(content=messages_of(rest, "messages")) if rest else None


def demonstrations_of(record: Record, turns: Turns) -> Iterator[Record]:
    """The demonstrations that a record gives; with "every", also each earlier assistant turn of its conversation.

    All stay in the record's group, so that a split keeps a conversation together.
    """
    last = answer_of(record)
    plain = replace(record, kind="demonstration", candidates=(), prob=1.0, margin=None, desirable=None)
    if turns == "every" and not isinstance(record.context, str):
        for place, turn in enumerate(record.context):
            if place and turn.role == "assistant" and (turn.content or turn.extra.get("tool_calls")):
                answer = Candidate(content=(turn,))
                yield replace(
                    plain, context=record.context[:place], candidates=(answer,), id=f"{record.id}#{place}"
                )
    if last is not None:
        yield replace(plain, candidates=(last,))


def as_demonstrations(dataset: Dataset, turns: Turns = "every") -> Dataset:
    """Converts a data set of any kind to one of demonstrations, each once, and notes their number.

    turns   "last": the final answer alone; "every": each assistant turn of a conversation is one.

    Raises DataError where nothing is left to imitate.
    """
    demonstrations = [d for record in dataset.records for d in demonstrations_of(record, turns)]
    distinct = list({d.identity(): d for d in demonstrations}.values())
    if not distinct:
        raise DataError(
            "no row has an answer to imitate",
            hint="give prompts with completions, conversations, pairs or ranked lists",
        )
    dataset.ledger.note(
        f"{len(dataset):,} rows give {len(distinct):,} demonstrations"
        + (
            f"; {len(demonstrations) - len(distinct):,} repeat another"
            if len(distinct) < len(demonstrations)
            else ""
        )
    )
    return replace(dataset.with_records(distinct), kind="demonstration")
