"""Goal-conditioned relabelling (reward-augmented data): each response of a scored pair is preferred at its own score.

A pair with scores g_w > g_l becomes two: asked for a response rated g_w, y_w is preferred to y_l; asked for one rated
g_l, y_l is preferred to y_w. A policy trained on both tells levels of quality apart, and is asked for the best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equipoise.data.errors import DataError
from equipoise.data.files.characters import bad_text
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Context, Message, Record
from equipoise.safe_text import is_blank

SENTENCE = "Give an answer whose quality is rated {goal}."
GOAL = "goal"  # attribute of a relabelled record


@dataclass(frozen=True, kw_only=True)
class Goals:
    """How a score is asked for: a sentence in the system turn, or as a paragraph before a plain text.

    sentence   holds {goal}; follows a system turn that is there already.
    levels     names of quality levels, the worst first; () asks for the score itself, in three digits.
    edges      scores at which the next level begins; from the data (`of`).
    best       the goal that is asked for when the policy is used: the highest score of the data, or the last level.

    Raises DataError for a sentence without {goal}, for fewer than two, equal or blank levels, and for characters that
    no text has.
    """

    sentence: str = SENTENCE
    levels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    best: str = ""

    def __post_init__(self) -> None:
        if "{goal}" not in self.sentence:
            raise DataError(f"the sentence that asks for a score must hold {{goal}}, got {self.sentence!r}")
        if self.levels and (len(self.levels) < 2 or len(set(self.levels)) < len(self.levels)):
            raise DataError(f"goals need at least two different levels, got {', '.join(self.levels)}")
        if any(map(is_blank, self.levels)):
            raise DataError("the name of a level is blank")
        strange = bad_text([self.sentence, *self.levels])
        if strange is not None:
            raise DataError(f"the sentence that asks for a score, or a level's name: {strange}")

    @classmethod
    def of(cls, records: Sequence[Record], sentence: str = SENTENCE, levels: Sequence[str] = ()) -> Goals:
        """Goals for the scores of these pairs; levels divide them into parts of equal size.

        Raises DataError if no pair has two scores.
        """
        scores = [score for record in records for score in _scores(record) or ()]
        if not scores:
            raise DataError(
                "no pair has a score of each response, which is what goals are made of",
                hint="give columns `score_chosen` and `score_rejected`, or lists of responses with rewards",
            )
        made = cls(sentence=sentence, levels=tuple(levels))
        edges = np.quantile(scores, np.arange(1, len(levels)) / len(levels)) if levels else ()
        made = replace(made, edges=tuple(map(float, edges)))
        return replace(made, best=made.name(max(scores)))

    def name(self, score: float) -> str:
        """The goal that a response of this score meets."""
        if not self.levels:
            return f"{score:.3g}"
        return self.levels[int(np.searchsorted(self.edges, score, side="right"))]

    def asked(self, goal: str) -> str:
        """The sentence that asks for a goal."""
        return self.sentence.replace("{goal}", goal)

    def conditioned(self, context: Context, goal: str) -> Context:
        """The prompt with the sentence that asks for a goal."""
        said = self.asked(goal)
        if isinstance(context, str):
            return f"{said}\n\n{context}"
        if context and context[0].role == "system":
            own = context[0].content
            return (replace(context[0], content=f"{own}\n\n{said}" if own else said), *context[1:])
        return (Message(role="system", content=said), *context)

    def bare(self, context: Context, goal: str) -> Context:
        """The prompt without its sentence: undoes `conditioned`."""
        said = self.asked(goal)
        if isinstance(context, str):
            return context.removeprefix(f"{said}\n\n")
        own = context[0].content
        if own == said:
            return context[1:]
        return (replace(context[0], content=own.removesuffix(f"\n\n{said}")), *context[1:])


def relabelled(
    dataset: Dataset, sentence: str = SENTENCE, levels: Sequence[str] = ()
) -> tuple[Dataset, Goals]:
    """Every usable pair twice, once at the goal of either response; the ledger notes what is left out.

    Left out are pairs without two scores, pairs whose goals are equal, which would be contradicted by their own second
    copy, and pairs whose label contradicts the scores. Both copies stay in the pair's group, so that a split by prompt
    keeps them together; the goal is an attribute of each. Raises DataError if nothing is left.
    """
    goals = Goals.of(dataset.records, sentence, levels)
    made: list[Record] = []
    left: Counter[str] = Counter()
    for record in dataset.records:
        both, why = _both(record, goals)
        made += both
        left[why] += not both
    for why, count in left.items():
        if count:
            dataset.ledger.note(f"{count:,} pairs left out: {why}")
    if not made:
        raise DataError(f"no pair can be relabelled by its scores: {', '.join(left)}")
    dataset.ledger.note(
        f"{len(made) // 2:,} pairs relabelled for the goals of both responses; ask for the best by: "
        f"{goals.asked(goals.best)}"
    )
    return dataset.with_records(made), goals


def _both(record: Record, goals: Goals) -> tuple[list[Record], str]:
    """The two copies of a pair, or none and the reason."""
    scores = _scores(record)
    if scores is None:
        return [], "a response has no score"
    if GOAL in record.attributes:
        return [], f"it has the attribute `{GOAL}`, which relabelled pairs have"
    first, second = record.candidates
    if (record.prob - 0.5) * (scores[0] - scores[1]) < 0:
        return [], "the label contradicts the scores"
    better, worse = (first, second) if scores[0] >= scores[1] else (second, first)
    high, low = (goals.name(score) for score in (max(scores), min(scores)))
    if high == low:
        return [], "both responses have the same goal"

    def at(goal: str, chosen: Any, other: Any, number: int) -> Record:
        return replace(
            record,
            context=goals.conditioned(record.context, goal),
            candidates=(chosen, other),
            prob=1.0,
            rationale="",
            attributes={**record.attributes, GOAL: goal},
            id=f"{record.id}#{number}",
        )

    return [at(high, better, worse, 1), at(low, worse, better, 2)], ""


def _scores(record: Record) -> tuple[float, float] | None:
    if record.kind != "pair":
        return None
    first, second = (candidate.score for candidate in record.candidates)
    return None if first is None or second is None else (first, second)
