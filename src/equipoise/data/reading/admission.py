"""Admission of records to a data set: duplicates are left out, and what else is odd about a record is remarked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from equipoise.data.ledger import Ledger, Remark
from equipoise.data.place import Place, Source
from equipoise.data.reading.seen import Seen
from equipoise.data.records import MASK, Context, Record, hashable

SHARE = 0.5  # of all weight that one row may have before a note says so


class Admission:
    """Takes records in order, keeps hashes and counts of them, and enters each in the ledger.

    duplicate        every field that training reads is equal: left out
    near-duplicate   prompt and answers are equal but for white space and case
    contradiction    the same two answers with the opposite preference, or the same answer with the opposite label,
                     by the same annotator where the data name them
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._sources: dict[int, Source] = {}
        self._rows, self._facts = Seen(numbers=True), Seen()
        self._desirable: Counter[bool] = Counter()
        self._heaviest: tuple[float, Place] | None = None
        self._weight = 0.0

    def take(self, records: Sequence[Record]) -> list[Record]:
        """Those records of one row that are new; a row without a new one is counted as a duplicate."""
        place = records[0].place
        new = [record for record in records if self._rows.add(record.identity(), _packed(place))]
        if not new:
            self.ledger.repeat(place, self._unpacked(self._rows.number(records[0].identity())))
            return []
        self._sources.setdefault(place.source.number, place.source)
        self.ledger.use(place)
        for record in new:
            self._remark(record)
        return new

    def recount(self, records: Sequence[Record]) -> None:
        """Counts labels and weights of these records alone, drawn of those that were taken."""
        self._desirable.clear()
        self._heaviest, self._weight = None, 0.0
        for record in records:
            self._count(record)

    def finish(self) -> None:
        """Adds the notes on labels and weights to the ledger."""
        note, ledger = self.ledger.note, self.ledger
        up, down = self._desirable[True], self._desirable[False]
        if up or down:
            note(f"labels: {up:,} desirable, {down:,} undesirable")
            if not (up and down):
                note("all labels are equal: losses with a KL or baseline term are degenerate here")
        against = ledger.count(Remark.CONTRADICTION)
        if against:
            lines = "; ".join(ledger.first_remarked(Remark.CONTRADICTION))
            note(f"{against:,} rows contradict an earlier label on the same answers; kept ({lines})")
        for remark, what in (
            (Remark.EQUAL_SCORES, "equal scores"),
            (Remark.INVERTED_SCORES, "inverted scores"),
        ):
            if ledger.count(remark):
                lines = "; ".join(ledger.first_remarked(remark))
                note(f"{ledger.count(remark):,} rows have {what}, which do not support their label ({lines})")
        if ledger.used and ledger.count(Remark.WEIGHT_ZERO) == ledger.used:
            note("every row has weight 0: there is nothing to train on")
        if self._heaviest and ledger.used > 2 and self._heaviest[0] > SHARE * self._weight:
            weight, place = self._heaviest
            note(f"one row has {weight / self._weight:.0%} of all weight: {place.short}")

    def _remark(self, record: Record) -> None:
        remark, place = self.ledger.remark, record.place
        self._count(record)
        if record.weight == 0:
            remark(place, Remark.WEIGHT_ZERO)
        if record.kind == "pair" and record.prob == 0.5:
            remark(place, Remark.TIE)
        scores = [score for candidate in record.candidates if (score := candidate.score) is not None]
        if len(scores) == len(record.candidates) > 1:
            if len(set(scores)) == 1:
                remark(place, Remark.EQUAL_SCORES)
            elif record.kind == "pair" and (scores[0] - scores[1]) * (record.prob - 0.5) < 0:
                remark(place, Remark.INVERTED_SCORES)
        texts = [record.context, *(candidate.content for candidate in record.candidates)]
        if not self._facts.add(
            _hash("near", record.kind, record.user, record.desirable, *map(_words, texts))
        ):
            remark(place, Remark.NEAR_DUPLICATE)
        self._compare_labels(record)

    def _count(self, record: Record) -> None:
        self._weight += record.weight
        if record.weight and (self._heaviest is None or record.weight > self._heaviest[0]):
            self._heaviest = record.weight, record.place
        if record.desirable is not None:
            self._desirable[record.desirable] += 1

    def _compare_labels(self, record: Record) -> None:
        """Remembers what the record says of its answers, and remarks if an earlier one said the opposite."""
        if record.kind == "unpaired":
            said = bool(record.desirable)
        elif record.kind == "pair" and record.prob != 0.5:
            said = record.prob > 0.5
        else:
            return
        answers = [_hash(hashable(candidate.content)) for candidate in record.candidates]
        if len(answers) > 1 and answers[0] > answers[1]:
            answers, said = answers[::-1], not said
        if _hash(record.group, record.user, not said, *answers) in self._facts:
            self.ledger.remark(record.place, Remark.CONTRADICTION)
        self._facts.add(_hash(record.group, record.user, said, *answers))

    def _unpacked(self, number: int) -> Place:
        source, at = self._sources[number >> _BITS], number & ((1 << _BITS) - 1)
        return Place(source, at, at if source.by_line else 0)


_BITS = 40  # of a row's number; the others are its source's


def _packed(place: Place) -> int:
    """The place as one number: its source, and the line or row by which messages name it."""
    return place.source.number << _BITS | place.number


def _words(content: Context) -> tuple[str, ...]:
    """The texts of a prompt or an answer without differences in white space and case, with their roles."""
    if isinstance(content, str):
        return (" ".join(content.split()).casefold(),)
    return tuple(part for turn in content for part in (turn.role, *_words(turn.content)))


def _hash(*parts: Any) -> int:
    return hash(parts) & MASK
