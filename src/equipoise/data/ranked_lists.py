"""Ranked lists: which pairs they give, and the same number of answers from each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Literal

from equipoise.data.errors import DataError
from equipoise.data.read import Dataset
from equipoise.data.records import Record

ListPairs = Literal["best_worst", "all", "adjacent"]


def ordered(record: Record) -> Record:
    """The same list, best answer first; equal scores keep their order."""
    return replace(record, candidates=tuple(sorted(record.candidates, key=lambda c: -_score(c.score))))


def pairs_of(record: Record, which: ListPairs) -> list[Record]:
    """The pairs of a list, preferred answer first, how much better it is as the margin; equal scores give none."""
    answers = ordered(record).candidates
    found = {
        "best_worst": [(answers[0], answers[-1])],
        "all": list(combinations(answers, 2)),
        "adjacent": list(pairwise(answers)),
    }[which]
    apart = [_score(better.score) - _score(worse.score) for better, worse in found]
    return [
        replace(record, kind="pair", candidates=pair, margin=margin, id=f"{record.id}#{number}")
        for number, (pair, margin) in enumerate(zip(found, apart, strict=True), start=1)
        if margin > 0
    ]


def as_pairs(dataset: Dataset, which: ListPairs = "best_worst") -> Dataset:
    """A data set of lists as one of pairs, with a note that says how many there are. Raises DataError for none."""
    found = [pair for record in dataset.records for pair in pairs_of(record, which)]
    dataset.ledger.note(f"{len(dataset):,} lists give {len(found):,} pairs ({which}); ties give none")
    if not found:
        raise DataError("every list is one tie: no pair can be made of it")
    return replace(dataset.with_records(found), kind="pair")


def usual_size(sizes: Sequence[int]) -> int:
    """The most frequent number of answers, the larger of equally frequent ones."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))


def spread(count: int, size: int) -> list[int]:
    """`size` of `count` places, the first and the last among them and the others evenly between."""
    return [round(place * (count - 1) / (size - 1)) for place in range(size)]


def _score(score: float | None) -> float:
    assert score is not None, "a list without scores"
    return score
