"""The ledger accounts for every row: read = used + refused + duplicate, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from equipoise.data.errors import DataError, Refusal

Place = tuple[str, int]  # file and line, which identify a row


def short_place(place: Place) -> str:
    """File name (without its folder) and line, for messages that list rows."""
    return f"{Path(place[0]).name}:{place[1]}"


class Ledger:
    """Accounts for every row, under its file and line, from reading to rendering.

    A row is used, refused or a duplicate; a used row may also be truncated. Refusing a row twice counts once,
    so rendering the same data again changes nothing. With `strict` the first refusal raises DataError.

    read         rows read                      used        rows used
    refused      reason -> count                duplicate   rows equal to an earlier one
    truncated    used rows with an answer cut   repaired    kind of repair -> count
    notes        sentences for the user
    """

    def __init__(self, *, strict: bool = False, max_errors_shown: int = 3) -> None:
        self.strict, self.max_errors_shown = strict, max_errors_shown
        self.repaired: Counter[str] = Counter()
        self.notes: list[str] = []
        self._read: set[Place] = set()
        self._used: set[Place] = set()
        self._refused: dict[Place, Refusal] = {}
        self._duplicate: dict[Place, Place] = {}
        self._truncated: dict[Place, tuple[str, ...]] = {}

    def use(self, place: Place) -> None:
        """Counts the row as used; rendering may still refuse it."""
        self._read.add(place)
        self._used.add(place)

    def refuse(self, place: Place, refusal: Refusal) -> None:
        """Counts the row as refused, for this reason. Raises DataError when strict."""
        if self.strict:
            raise DataError(
                str(refusal), file=place[0], line=place[1], hint="strict is on: fix the row or remove it"
            )
        self._read.add(place)
        self._used.discard(place)
        self._truncated.pop(place, None)
        self._refused.setdefault(place, refusal)

    def repeat(self, place: Place, first: Place) -> None:
        """Counts the row as a duplicate of an earlier one; it is left out."""
        self._read.add(place)
        self._duplicate[place] = first

    def truncate(self, place: Place, sides: Sequence[str] = ()) -> None:
        """Records that answers of this used row were cut; `sides` names them ("chosen", "rejected")."""
        self._truncated[place] = tuple(sides)

    def note(self, sentence: str) -> None:
        """Adds a sentence for the user, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    @property
    def read(self) -> int:
        return len(self._read)

    @property
    def used(self) -> int:
        return len(self._used)

    @property
    def duplicate(self) -> int:
        return len(self._duplicate)

    @property
    def truncated(self) -> int:
        return len(self._truncated)

    @property
    def truncated_by_side(self) -> dict[str, int]:
        """Side -> number of cut answers: unequal rates bias what is learned."""
        return dict(sorted(Counter(side for sides in self._truncated.values() for side in sides).items()))

    @property
    def refused(self) -> dict[str, int]:
        """Reason -> number of rows, most frequent first."""
        return dict(Counter(refusal.reason for refusal in self._refused.values()).most_common())

    def first_lines(self) -> dict[str, list[str]]:
        """Reason -> the first few rows refused for it, each "file:line (detail)"."""
        shown: dict[str, list[str]] = {reason: [] for reason in self.refused}
        for place, refusal in self._refused.items():
            if len(shown[refusal.reason]) < self.max_errors_shown:
                detail = f" ({refusal.detail})" if refusal.detail else ""
                shown[refusal.reason].append(short_place(place) + detail)
        if self._duplicate:
            pairs = list(self._duplicate.items())[: self.max_errors_shown]
            shown["duplicate"] = [f"{short_place(row)} (as {short_place(first)})" for row, first in pairs]
        return shown

    def balance(self) -> None:
        """Raises AssertionError unless every row is accounted for exactly once."""
        total = self.used + len(self._refused) + self.duplicate
        if self.read != total or not self._truncated.keys() <= self._used:
            raise AssertionError(f"ledger does not balance: {self.read} rows read, {total} accounted for")

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
        lines += [("of the used: truncated", self.truncated, "")] if self.truncated else []
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
