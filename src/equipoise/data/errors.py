"""Error types: `DataError` for a whole file, `Refusal` for a single row."""

from __future__ import annotations

from equipoise.data.place import Place
from equipoise.safe_text import printable

LONGEST = 300  # characters of a value that a refusal shows


class DataError(ValueError):
    """Fatal error: the data cannot be used. Prints as one short message: where, why, and what to do.

    file    path as the user gave it          line, column    1-based position, when there is one
    row     1-based row, where the file has no line that names it
    reason  what is wrong                     hint            what to do about it

    Controls and invisible characters of the file's text are escaped.
    """

    def __init__(
        self,
        reason: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        row: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.reason, self.hint = reason, hint
        self.file, self.line, self.column, self.row = file, line, column, row
        where = ":".join(str(part) for part in (file, line, column) if part is not None)
        where += f": row {row}" if where and row is not None else ""
        message = f"{printable(where)}: {reason}" if where else reason
        super().__init__(printable(f"{message}\n  {hint}" if hint else message, lines=True))

    @classmethod
    def at(cls, place: Place, reason: str, *, hint: str | None = None) -> DataError:
        """The error of one row, at its line or its number."""
        by_line = place.source.by_line and place.line
        return cls(
            reason,
            file=place.file,
            line=place.line if by_line else None,
            row=None if by_line else place.row,
            hint=hint,
        )


class Refusal(ValueError):
    """Refusal of one row: a reason shared by many rows, and the detail of this one; both are safe to print."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = printable(reason, most=LONGEST), printable(detail, most=LONGEST)
        super().__init__(f"{self.reason}: {self.detail}" if detail else self.reason)


class OffScale(Refusal):
    """Refusal of a judgement whose number its scale does not have: many such rows put the scale of all in doubt."""
