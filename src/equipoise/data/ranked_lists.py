"""Ranked lists: conversion to preference pairs, and the choice of a fixed number of answers per list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Literal

from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Record

ListPairs = Literal["best_worst", "all", "adjacent"]


def ordered(record: Record) -> Record:
    """The same list, best answer first; equal scores keep their order."""
    return replace(record, candidates=tuple(sorted(record.candidates, key=lambda c: -_score(c.score))))


def pairs_of(record: Record, which: ListPairs) -> list[Record]:
    """Preference pairs of a list, preferred answer first, margin = difference of scores; ties give no pair."""
    answers = ordered(record).candidates
    pairs = {
        "best_worst": [(answers[0], answers[-1])],
        "all": list(combinations(answers, 2)),
        "adjacent": list(pairwise(answers)),
    }[which]
    apart = [_score(better.score) - _score(worse.score) for better, worse in pairs]
    return [
        replace(record, kind="pair", candidates=pair, margin=margin, id=f"{record.id}#{number}")
        for number, (pair, margin) in enumerate(zip(pairs, apart, strict=True), start=1)
        if margin > 0
    ]


def as_pairs(dataset: Dataset, which: ListPairs = "best_worst") -> Dataset:
    """Converts a data set of lists to one of pairs, and notes their number. Raises DataError if all scores tie."""
    pairs = [pair for record in dataset.records for pair in pairs_of(record, which)]
    dataset.ledger.note(f"{len(dataset):,} lists give {len(pairs):,} pairs ({which}); ties give none")
    if not pairs:
        raise DataError("all answers of every list tie: no pair can be made")
    return replace(dataset.with_records(pairs), kind="pair")


def without_ties(dataset: Dataset, method: str) -> Dataset:
    """The data set without pairs that tie (`prob` 0.5), for a method that must know the better answer; they are noted.

    Raises DataError if every pair ties.
    """
    kept = [record for record in dataset.records if record.kind != "pair" or record.prob != 0.5]
    if len(kept) == len(dataset):
        return dataset
    dataset.ledger.note(
        f"{len(dataset) - len(kept):,} ties are left out: {method} imitates the better answer"
    )
    if not kept:
        raise DataError("every pair ties: no answer is the better one")
    return dataset.with_records(kept)


def usual_size(sizes: Sequence[int]) -> int:
    """The most frequent number of answers; of equally frequent ones the largest."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))


def spread(count: int, size: int) -> list[int]:
    """Evenly spaced indices: `size` out of `count`, the first and the last among them."""
    return [round(place * (count - 1) / (size - 1)) for place in range(size)]


def _score(score: float | None) -> float:
    assert score is not None, "a list without scores"
    return score
