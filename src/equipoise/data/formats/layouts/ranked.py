"""Formats of ranked or scored lists: one prompt, two or more answers, ordered by a rank or a score.

To add one, write its parser and one entry of RANKED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.formats.annotations import answer_attributes, numbers_under
from equipoise.data.formats.asked import ASKED_COLUMN, asked_turns, conversation, is_texts
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.parse_values import Reading, messages_of, number_of, shape, text_of
from equipoise.data.records import Attributes, Candidate, Context, Message


def scored_text(row: RawRow, reading: Reading) -> Fields:
    """`prompt`, `responses` and as many `rewards`, high is best; prompt and responses are strings."""
    context = text_of(row.get("prompt"), "prompt")
    answers = [text_of(answer, f"responses[{i}]") for i, answer in enumerate(row["responses"])]
    return list_of(row, context, answers, numbers_of(row, "rewards", len(answers), reading), reading)


def scored_chat(row: RawRow, reading: Reading) -> Fields:
    """The same after a prompt of messages; string answers are wrapped as turns."""
    context = messages_of(row.get("prompt"), "prompt")
    answers = [_turn(answer, f"responses[{i}]", reading) for i, answer in enumerate(row["responses"])]
    return list_of(row, context, answers, numbers_of(row, "rewards", len(answers), reading), reading)


def rated(row: RawRow, reading: Reading) -> Fields:
    """A question, `generations` and as many `ratings`, high is best: distilabel's rating task and its relatives."""
    answers_name, scores_name = (next(n for n in names if n in row) for names in (_ANSWERS, _SCORES))
    answers = [_turn(answer, f"{answers_name}[{i}]", reading) for i, answer in enumerate(row[answers_name])]
    scores = numbers_of(row, scores_name, len(answers), reading)
    return list_of(row, asked_turns(row, reading), answers, scores, reading)


def one_rated(row: RawRow, reading: Reading) -> Fields:
    """`prompt`, `response` and a score, one answer a row: the rows of a prompt form its list (HelpSteer2).

    HelpSteer's five ratings are the answer's attributes.
    """
    name, score = (next(n for n in names if n in row) for names in (_ANSWER, _SCORE))
    answer = _turn(row.get(name), name, reading)
    return {
        "context": asked_turns(row, reading),
        "candidates": (
            Candidate(
                content=answer,
                score=_number(row, score, reading),
                attributes=numbers_under(row, _HELPSTEER),
            ),
        ),
    }


def nectar(row: RawRow, reading: Reading) -> Fields:
    """`prompt`, `answers`: [{answer, rank}], rank 1 is best; Human and Assistant mark the prompt's turns."""
    turns = conversation(row.get("prompt"), "prompt", reading)
    answers = [
        _turn(text_of(a.get("answer"), f"answers[{i}]"), f"answers[{i}]", reading)
        for i, a in enumerate(row["answers"])
    ]
    return list_of(row, turns, answers, [-_number(a, "rank", reading) for a in row["answers"]], reading)


def nemo(row: RawRow, reading: Reading) -> Fields:
    """`context`, `completions`: [{completion: messages, rank}], rank 0 is best; a `reward` is not read."""
    context = messages_of(row.get("context"), "context")
    items = row["completions"]
    answers = [messages_of(item.get("completion"), f"completions[{i}]") for i, item in enumerate(items)]
    return list_of(row, context, answers, [-_number(item, "rank", reading) for item in items], reading)


def ultrafeedback(row: RawRow, reading: Reading) -> Fields:
    """`instruction`, `completions`: [{response, annotations}]; score = mean rating of its aspects, the attributes."""
    context = asked_turns(row, reading)
    items = row["completions"]
    answers = [
        _turn(text_of(item.get("response"), f"completions[{i}]"), f"completions[{i}]", reading)
        for i, item in enumerate(items)
    ]
    ratings = [_ratings(item, i, reading) for i, item in enumerate(items)]
    means = [sum(aspects.values()) / len(aspects) for aspects in ratings]
    return list_of(row, context, answers, means, reading, ratings)


def _ratings(item: RawRow, place: int, reading: Reading) -> dict[str, float]:
    """Aspect -> rating."""
    annotations = item.get("annotations")
    if not isinstance(annotations, Mapping) or not annotations:
        raise Refusal("an answer has no annotations", f"completions[{place}]")
    ratings = {
        aspect: _number(about, "Rating", reading)
        for aspect, about in annotations.items()
        if isinstance(about, Mapping)
    }
    if not ratings:
        raise Refusal("an answer has no rating", f"completions[{place}]")
    return ratings


def list_of(
    row: RawRow,
    context: Context,
    answers: Sequence[Context],
    scores: Sequence[float],
    reading: Reading,
    measured: Sequence[Attributes] | None = None,
) -> Fields:
    """Record fields of a list; equal answers count once, with the first one's score and attributes.

    measured   attributes of each answer, if the format has them; what the row says in addition is added
    """
    found = answer_attributes(row, len(answers), (), reading)
    kept: dict[Any, Candidate] = {}
    for answer, score, own, more in zip(
        answers, scores, found, measured or ({},) * len(answers), strict=True
    ):
        if answer in kept:
            reading.notes["a repeated answer in a list counts once"] += 1
        kept.setdefault(answer, Candidate(content=answer, score=score, attributes={**more, **own}))
    if len(kept) < 2:
        raise Refusal("a list needs two different answers", f"{len(kept)} found")
    return {
        "context": context,
        "candidates": tuple(kept.values()),
    }


def _turn(answer: Any, name: str, reading: Reading) -> tuple[Message, ...]:
    if not isinstance(answer, str):
        return messages_of(answer, name)
    reading.notes["string answer wrapped as assistant turn"] += 1
    return (Message(role="assistant", content=text_of(answer, name)),)


def numbers_of(row: RawRow, name: str, count: int, reading: Reading) -> list[float]:
    """The finite numbers of a column that has one for each answer. Raises Refusal for anything else."""
    values = row[name]
    if len(values) != count:
        raise Refusal(f"{count} answers with {len(values)} {name}")
    return [_number({name: value}, name, reading) for value in values]


def _number(row: RawRow, name: str, reading: Reading) -> float:
    number = number_of(row, name, reading)
    if number is None:
        raise Refusal(f"an answer has no {name}")
    return number


def _items(name: str, *fields: str) -> Callable[[RawRow], bool]:
    """The test that a column is a list of objects with these fields."""

    def fits(row: RawRow) -> bool:
        items = row.get(name)
        return (
            isinstance(items, list)
            and bool(items)
            and all(isinstance(item, Mapping) and set(fields) <= set(item) for item in items)
        )

    return fits


def _scored(space: str) -> Callable[[RawRow], bool]:
    """The test that answers and scores are lists, after a prompt in this space."""

    def fits(row: RawRow) -> bool:
        lists = (row.get("responses"), row.get("rewards"))
        return shape(row.get("prompt")) == space and all(
            isinstance(values, list) and values for values in lists
        )

    return fits


def _is_rated(row: RawRow) -> bool:
    answers, scores = (next((row[n] for n in names if n in row), None) for names in (_ANSWERS, _SCORES))
    return is_texts(answers) and isinstance(scores, list) and not set(_SCORED) <= set(row)


def _is_one_rated(row: RawRow) -> bool:
    answer, score = (next((row[n] for n in names if n in row), None) for names in (_ANSWER, _SCORE))
    return isinstance(answer, str) and isinstance(score, int | float | str) and not isinstance(score, bool)


_SCORED = ("prompt", "responses", "rewards")
_ANSWERS = ("generations", "responses", "answers", "outputs", "candidates", "completions")
_SCORES = ("ratings", "scores", "rewards")
_ANSWER = ("response", "output", "answer")
_SCORE = ("helpfulness", "score", "rating", "reward")
_HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_PAIRED = frozenset({"chosen", "rejected", "type", "label", "kto_tag"})
RANKED = (
    Format("list-text", "scores", "text", _SCORED, scored_text, _scored("text")),
    Format("list-chat", "scores", "chat", _SCORED, scored_chat, _scored("chat")),
    Format("nectar", "rank", "chat", ("prompt", "answers"), nectar, _items("answers", "answer", "rank")),
    Format(
        "nemo", "rank", "chat", ("context", "completions"), nemo, _items("completions", "completion", "rank")
    ),
    Format(
        "ultrafeedback",
        "scores",
        "chat",
        ("instruction", "completions"),
        ultrafeedback,
        _items("completions", "response", "annotations"),
    ),
    Format(
        "rated-list",
        "scores",
        "chat",
        (ASKED_COLUMN, "|".join(_ANSWERS), "|".join(_SCORES)),
        rated,
        _is_rated,
        _PAIRED,
    ),
    Format(
        "rated-rows",
        "scores",
        "chat",
        ("prompt|question", "|".join(_ANSWER), "|".join(_SCORE)),
        one_rated,
        _is_one_rated,
        _PAIRED | {"responses", "generations"},
        grouped=True,
    ),
)
