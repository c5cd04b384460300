"""Error types: `DataError` for a whole file, `Refusal` for a single row."""

from __future__ import annotations


class DataError(ValueError):
    """Fatal error: the data cannot be used. Prints as one short message: where, why, and what to do.

    file    path as the user gave it          line, column    1-based position, when there is one
    reason  what is wrong                     hint            what to do about it
    """

    def __init__(
        self,
        reason: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.reason, self.file, self.line, self.column, self.hint = reason, file, line, column, hint
        where = ":".join(str(part) for part in (file, line, column) if part is not None)
        message = f"{where}: {reason}" if where else reason
        super().__init__(f"{message}\n  {hint}" if hint else message)


class Refusal(ValueError):
    """Refusal of one row: a reason shared by many rows, and the detail of this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else reason)
