"""Account of an oracle's questions: how many were asked, answered, or stayed without a verdict, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

NUMBERS = ("asked", "answered", "stored", "failed", "compared", "disagreed", "cost")


@dataclass
class Account:
    """What was asked: `asked` attempts, `answered` new verdicts, `stored` verdicts read back, `failed` questions.

    compared, disagreed  comparisons asked in both orders, and those in which the two orders prefer different responses
    cost                 of all answers, also of those that could not be read
    reasons              why questions failed, with their numbers
    """

    asked: int = 0
    answered: int = 0
    stored: int = 0
    failed: int = 0
    compared: int = 0
    disagreed: int = 0
    cost: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        """Count a question without a verdict."""
        self.failed += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def copy(self) -> Account:
        """The account as it stands now."""
        return replace(self, reasons=dict(self.reasons))

    @classmethod
    def total(cls, accounts: Iterable[Account]) -> Account:
        """The sum of several accounts."""
        found = cls()
        for one in accounts:
            for name in NUMBERS:
                setattr(found, name, getattr(found, name) + getattr(one, name))
            found.reasons = dict(Counter(found.reasons) + Counter(one.reasons))
        return found

    def since(self, before: Account) -> dict[str, Any]:
        """The difference to an earlier account, as plain data; reasons of failures with their numbers."""
        numbers = {name: getattr(self, name) - getattr(before, name) for name in NUMBERS}
        reasons = {why: n - before.reasons.get(why, 0) for why, n in self.reasons.items()}
        return numbers | {"reasons": {why: n for why, n in reasons.items() if n}}


@runtime_checkable
class Accounted(Protocol):
    """An oracle with an account of its questions; one that answers whole batches counts only those that failed."""

    @property
    def name(self) -> str: ...

    @property
    def account(self) -> Account: ...
