"""Few-shot episodes of annotators: labelled pairs of one user, shown in the prompt before another pair of theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Context, Message, Record

INTRODUCTION = "Some of my earlier choices between two answers:"
QUESTION = "Answer the following as I would prefer."


def as_episodes(dataset: Dataset, shots: int, seed: int = 0, *, words: bool = True) -> Dataset:
    """Converts a data set of pairs into episodes: each pair after `shots` other pairs of its annotator (FSPO).

    An episode's prompt shows the shots, each with its question, the preferred and the other answer, and then the pair's
    own prompt; its answers and label are the pair's. Shots have other prompts than the query and than each other, and
    are drawn by seed, annotator and query: the order of the rows changes nothing. Ties are no shots. The episode stays
    in the group of its query's prompt.

    words    False for a model without natural language: question, preferred and other answer, without headings.

    Annotators with too few pairs are left out and counted. Raises DataError for data of another kind, a row that names
    no annotator, and if no episode is left.
    """
    if dataset.kind != "pair":
        raise DataError(
            f"few-shot episodes are made of pairs; the data contain records of kind {dataset.kind!r}",
            hint="give pairs with a column `user_id`, or leave data.shots at 0",
        )
    of_user: dict[str, list[Record]] = {}
    for record in dataset.records:
        if not record.user:
            raise DataError.at(
                record.place,
                "this row names no annotator, and few-shot episodes show an annotator's other choices",
                hint="give every row a column `user_id`, or leave data.shots at 0",
            )
        of_user.setdefault(record.user, []).append(record)
    telling = {
        user: sorted((r for r in records if r.prob != 0.5), key=lambda r: r.id)
        for user, records in of_user.items()
    }
    found = (_episode(query, telling[query.user], shots, seed, words) for query in dataset.records)
    episodes = [episode for episode in found if episode is not None]
    left = len(dataset) - len(episodes)
    dataset.ledger.note(
        f"{len(episodes):,} episodes of {shots} shots, by {len(of_user):,} annotators"
        + (f"; {left:,} rows of annotators with too few pairs are left out" if left else "")
    )
    if not episodes:
        raise DataError(f"no annotator has {shots + 1} pairs with different prompts", hint="lower data.shots")
    return dataset.with_records(episodes)


def _episode(query: Record, records: Sequence[Record], shots: int, seed: int, words: bool) -> Record | None:
    """The episode of one pair; None if its annotator has too few others.

    records    of the annotator, without ties, in an order that does not depend on the data's.
    """
    address = hashlib.sha256(f"{seed}:{query.user}:{query.id}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(address[:8], "big")).permutation(len(records))
    chosen: dict[str, Record] = {}
    for place in order:
        if len(chosen) == shots:
            break
        if records[place].group != query.group:
            chosen.setdefault(records[place].group, records[place])
    if len(chosen) < shots:
        return None
    return replace(query, context=with_shots(query.context, list(chosen.values()), words=words))


def with_shots(context: Context, shots: Sequence[Record], *, words: bool = True) -> Context:
    """A prompt with an annotator's labelled pairs before it; in a chat they open its last user turn.

    Raises DataError for a chat without a user turn.
    """
    if not shots:
        return context
    if isinstance(context, str):
        return _written(context, shots, words)
    last = next((i for i in reversed(range(len(context))) if context[i].role == "user"), None)
    if last is None:
        raise DataError("a prompt without a user turn has no place for few-shot examples")
    turn = replace(context[last], content=_written(context[last].content, shots, words))
    return (*context[:last], turn, *context[last + 1 :])


def _written(question: str, shots: Sequence[Record], words: bool) -> str:
    shown = [_shot(record, words) for record in shots]
    if not words:
        return " ".join([*shown, question])
    return "\n\n".join([INTRODUCTION, *shown, QUESTION, question])


def _shot(record: Record, words: bool) -> str:
    better, worse = record.candidates if record.prob > 0.5 else record.candidates[::-1]
    parts = (_said(record.context), better.text, worse.text)
    if not words:
        return " ".join(part.strip() for part in parts)
    headings = ("Question", "Preferred answer", "Other answer")
    return "\n".join(f"{heading}: {part.strip()}" for heading, part in zip(headings, parts, strict=True))


def _said(context: Context) -> str:
    """A shot's prompt as text: of a single user turn its words alone, else the turns under their roles."""
    if isinstance(context, str):
        return context
    turns: tuple[Message, ...] = tuple(turn for turn in context if turn.role != "system")
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
