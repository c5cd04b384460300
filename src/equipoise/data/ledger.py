"""The ledger accounts for every row: read = used + refused + duplicate, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from equipoise.data.errors import DataError, Refusal
from equipoise.data.place import Place, Source
from equipoise.safe_text import printable


class State(IntEnum):
    """What has become of a row; 0 is a number that no row has."""

    USED = 1
    REFUSED = 2
    DUPLICATE = 3


class Remark(IntEnum):
    """What a used row has about it: bits, of which a row may have several."""

    TRUNCATED = 1
    PROMPT_CUT = 2
    WEIGHT_ZERO = 4
    TIE = 8
    EQUAL_SCORES = 16
    CONTRADICTION = 32
    NEAR_DUPLICATE = 64
    INVERTED_SCORES = 128


REMARKS = {
    Remark.TRUNCATED: "truncated",
    Remark.PROMPT_CUT: "prompt cut",
    Remark.WEIGHT_ZERO: "weight 0",
    Remark.TIE: "label is a tie",
    Remark.EQUAL_SCORES: "equal scores",
    Remark.INVERTED_SCORES: "the other answer has the higher score",
    Remark.CONTRADICTION: "contradicts an earlier label",
    Remark.NEAR_DUPLICATE: "differs from an earlier row in white space or case only",
}


class Ledger:
    """Accounts for every row, under its place (file and row), from reading to rendering.

    A row is used, refused or a duplicate; a used row may have remarks. Refusing a row twice counts once, so
    rendering the same data again changes nothing. With `strict` the first refusal raises DataError. Two bytes are
    kept of each row, and the first few places of every reason.

    read         rows read                      used        rows used
    refused      reason -> count                duplicate   rows equal to an earlier one
    truncated    used rows with an answer cut   repaired    kind of repair -> count
    remarks      what used rows have about them (prompt cut, weight 0, ...) -> count
    files        file -> rows read, used, refused, duplicate: the parts of a mixture
    notes        sentences for the user
    """

    def __init__(self, *, strict: bool = False, max_errors_shown: int = 3) -> None:
        self.strict, self.max_errors_shown = strict, max_errors_shown
        self.repaired: Counter[str] = Counter()
        self.notes: list[str] = []
        self.used = self.duplicate = 0
        self._refused: Counter[str] = Counter()
        self._rows: dict[int, _Rows] = {}
        self._first: dict[str, list[str]] = {}
        self._first_remarked: dict[Remark, list[Place]] = {}
        self._sides: dict[tuple[int, int], tuple[str, ...]] = {}

    def use(self, place: Place) -> None:
        """Counts the row as used; rendering may still refuse it."""
        if self._becomes(place, State.USED):
            self.used += 1

    def refuse(self, place: Place, refusal: Refusal) -> None:
        """Counts the row as refused, for this reason. Raises DataError when strict."""
        if self.strict:
            raise DataError.at(place, str(refusal), hint="strict is on: fix the row or remove it")
        self.leave_out(place, refusal.reason, refusal.detail)

    def leave_out(self, place: Place, reason: str, detail: str = "") -> None:
        """Counts the row among the refused ones although nothing is wrong with it, so also when strict."""
        before = self.state(place)
        if before == State.USED:
            self.used -= 1
            self._sides.pop((place.source.number, place.row), None)
        if self._becomes(place, State.REFUSED, after=State.USED):
            self._refused[reason] += 1
            self._show(reason, place, detail)

    def repeat(self, place: Place, first: Place) -> None:
        """Counts the row as a duplicate of an earlier one; it is left out."""
        if self._becomes(place, State.DUPLICATE):
            self.duplicate += 1
            self._show("duplicate", place, f"as {printable(first.short)}")

    def truncate(self, place: Place, sides: Sequence[str] = ()) -> None:
        """Records that answers of this used row were cut; `sides` names them ("chosen", "rejected")."""
        self.remark(place, Remark.TRUNCATED)
        self._sides[place.source.number, place.row] = tuple(sides)

    def cut_prompt(self, place: Place) -> None:
        """Records that the beginning of this used row's prompt was cut."""
        self.remark(place, Remark.PROMPT_CUT)

    def remark(self, place: Place, remark: Remark) -> None:
        """Records a remark about a used row, once; it no longer counts when the row is refused later."""
        rows = self._rows_of(place)
        if not rows.remarks[place.row] & remark:
            rows.remarks[place.row] |= remark
            shown = self._first_remarked.setdefault(remark, [])
            if len(shown) < self.max_errors_shown:
                shown.append(place)

    def note(self, sentence: str) -> None:
        """Adds a sentence for the user, once."""
        sentence = printable(sentence)
        if sentence not in self.notes:
            self.notes.append(sentence)

    def state(self, place: Place) -> State | None:
        """What has become of the row; None for one that was not counted yet."""
        rows = self._rows.get(place.source.number)
        known = rows is not None and place.row < len(rows.states) and rows.states[place.row]
        return State(known) if known else None

    @property
    def read(self) -> int:
        return sum(rows.count() for rows in self._rows.values())

    @property
    def truncated(self) -> int:
        return self.remarks.get(REMARKS[Remark.TRUNCATED], 0)

    @property
    def truncated_by_side(self) -> dict[str, int]:
        """Side -> number of cut answers: unequal rates bias what is learned."""
        return dict(sorted(Counter(side for sides in self._sides.values() for side in sides).items()))

    @property
    def refused(self) -> dict[str, int]:
        """Reason -> number of rows, most frequent first."""
        return dict(self._refused.most_common())

    def count(self, remark: Remark) -> int:
        """The number of used rows that have this remark."""
        return sum(rows.remarked(remark) for rows in self._rows.values())

    def first_remarked(self, remark: Remark) -> list[str]:
        """The first few of them, by place."""
        places = self._first_remarked.get(remark, [])
        return [printable(place.short) for place in places if self.state(place) == State.USED]

    @property
    def remarks(self) -> dict[str, int]:
        """Remark -> number of used rows that have it."""
        counts = {text: self.count(remark) for remark, text in REMARKS.items()}
        return {text: count for text, count in counts.items() if count}

    @property
    def files(self) -> dict[str, dict[str, int]]:
        """File or data set as listed -> its rows: read, used, refused, duplicate. Listed twice, it counts together."""
        counts: dict[str, Counter[str]] = {}
        for rows in self._rows.values():
            own = counts.setdefault(printable(rows.source.listed), Counter())
            own.update({"read": rows.count()} | {s.name.lower(): rows.count(s) for s in State})
        return {name: dict(count) for name, count in counts.items()}

    def first_lines(self) -> dict[str, list[str]]:
        """Reason -> the first few rows refused for it, each with its place and detail; likewise for remarks."""
        shown = {
            reason: list(self._first[reason])
            for reason in (*self.refused, "duplicate")
            if reason in self._first
        }
        for remark, text in REMARKS.items():
            if remark != Remark.TRUNCATED and (places := self.first_remarked(remark)):
                shown[text] = places
        return shown

    def balance(self) -> None:
        """Raises AssertionError unless every row is accounted for exactly once, by rows, by files and by reasons."""
        total = self.used + self._refused.total() + self.duplicate
        counted = [sum(rows.count(state) for rows in self._rows.values()) for state in State]
        if counted != [self.used, self._refused.total(), self.duplicate] or self.read != total:
            raise AssertionError(f"ledger does not balance: {self.read} rows read, {total} accounted for")
        if len(self._sides) != self.truncated:
            raise AssertionError(
                f"ledger does not balance: {len(self._sides)} rows cut, {self.truncated} marked"
            )
        files = [
            sum(own[what] for own in self.files.values()) for what in ("read", "used", "refused", "duplicate")
        ]
        if files != [self.read, *counted]:
            raise AssertionError(
                f"ledger does not balance: files have {files}, all rows {[self.read, *counted]}"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain data for ledger.json; read = used + sum(refused) + duplicate is asserted."""
        self.balance()
        return {
            "read": self.read,
            "used": self.used,
            "refused": self.refused,
            "truncated": self.truncated,
            "truncated_by_side": self.truncated_by_side,
            "duplicate": self.duplicate,
            "repaired": dict(self.repaired),
            "remarks": self.remarks,
            "files": self.files,
            "first_lines": self.first_lines(),
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, int, str]]:
        """(what, count, where) in reading order: the lines of every table."""
        self.balance()
        where = {reason: "; ".join(lines) for reason, lines in self.first_lines().items()}
        lines = [("read", self.read, ""), ("used", self.used, "")]
        lines += [(f"refused: {reason}", n, where[reason]) for reason, n in self.refused.items()]
        lines += [("duplicate", self.duplicate, where.get("duplicate", ""))] if self.duplicate else []
        lines += [(f"of the used: {what}", n, where.get(what, "")) for what, n in self.remarks.items()]
        lines += [(f"repaired: {what}", n, "") for what, n in self.repaired.items()]
        return lines

    def table(self) -> Table:
        """The ledger as a rich table; text from the data is escaped."""
        table = Table(box=None, pad_edge=False, title="Rows", title_justify="left")
        table.add_column("what")
        table.add_column("rows", justify="right")
        table.add_column("first lines")
        for what, count, where in self.rows():
            table.add_row(escape(what), f"{count:,}", escape(where))
        return table

    def __str__(self) -> str:
        return "\n".join(
            f"{count:>9,}  {what}" + (f"  [{where}]" if where else "") for what, count, where in self.rows()
        )

    def _rows_of(self, place: Place) -> _Rows:
        source = place.source
        rows = self._rows.get(source.number)
        if rows is None:
            rows = self._rows[source.number] = _Rows(source)
        elif rows.source is not source and rows.source != source:
            raise AssertionError(f"{rows.source.file} and {source.file} are both source {source.number}")
        rows.reach(place.row)
        return rows

    def _becomes(self, place: Place, state: State, after: State | None = None) -> bool:
        """Whether this is new of the row. Raises AssertionError if something else was said of it (but `after`)."""
        states = self._rows_of(place).states
        before = states[place.row]
        if before not in (0, state, after):
            raise AssertionError(f"ledger does not balance: {place} is {State(before).name} and {state.name}")
        states[place.row] = state
        return before != state

    def _show(self, reason: str, place: Place, detail: str) -> None:
        shown = self._first.setdefault(reason, [])
        if len(shown) < self.max_errors_shown:
            shown.append(printable(place.short) + (f" ({detail})" if detail else ""))


class _Rows:
    """States and remarks of one source's rows: a byte each, at the row's number."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.states, self.remarks = bytearray(1), bytearray(1)

    def reach(self, row: int) -> None:
        missing = row + 1 - len(self.states)
        if missing > 0:
            self.states.extend(bytes(missing))
            self.remarks.extend(bytes(missing))

    def count(self, state: State | None = None) -> int:
        return len(self.states) - self.states.count(0) if state is None else self.states.count(state)

    def remarked(self, remark: Remark) -> int:
        states, remarks = (np.frombuffer(column, dtype=np.uint8) for column in (self.states, self.remarks))
        return int(np.count_nonzero((states == State.USED) & (remarks & remark > 0)))
