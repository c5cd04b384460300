"""The desk where raters answer: which question one sees, what a press does, and how it is taken back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from equipoise.label.errors import LabelError
from equipoise.label.plan import Item, plan
from equipoise.label.votes import CHOICES, Choice, Vote, Votes, now

LONGEST_NOTE = 10_000


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a rater sees.

    item      the question; None: all are answered, or the next one is waited for
    number    how many questions the rater has answered
    total     how many there are
    undo      whether the last answer can be taken back
    before    the answer to this question that was just taken back
    waiting   whether more questions may come
    """

    item: Item | None
    number: int
    total: int
    undo: bool
    before: Vote | None = None
    waiting: bool = False


class Stale(LabelError):
    """A press that belongs to another question than the one that is open: nothing was changed."""


class Desk(Protocol):
    """Where questions are shown and answered.

    show    what this rater sees
    choose  the rater answers question `number`; raises Stale if another one is open
    undo    the rater's last answer is taken back; raises Stale if there is none, or another question is open
    """

    question: str
    choices: Sequence[Choice]

    def show(self, rater: str) -> Shown: ...

    def choose(self, rater: str, number: int, choice: Choice, note: str = "") -> None: ...

    def undo(self, rater: str, number: int) -> None: ...


@dataclass
class PlannedDesk:
    """A desk with a fixed set of pairs, of which each rater has a plan of their own. Safe in several threads."""

    votes: Votes
    question: str = "Which answer is better?"
    choices: Sequence[Choice] = CHOICES
    _plans: dict[str, list[Item]] = field(default_factory=dict)
    _undone: dict[str, Vote] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        for rater, cast in self.votes.cast.items():
            items = self._plan(rater)
            for number, vote in enumerate(cast):
                if vote.item != number or number >= len(items) or _shown(items[number]) != _seen(vote):
                    raise LabelError(
                        f"{self.votes.path}: answer {number + 1} of {rater} is to another question than the plan's; "
                        "restore the file from a copy, or choose another with --out"
                    )

    def show(self, rater: str) -> Shown:
        with self._lock:
            items, number = self._plan(rater), self._answered(rater)
            item = items[number] if number < len(items) else None
            undone = self._undone.get(rater)
            before = undone if undone is not None and undone.item == number else None
            return Shown(item=item, number=number, total=len(items), undo=number > 0, before=before)

    def choose(self, rater: str, number: int, choice: Choice, note: str = "") -> None:
        with self._lock:
            item = self.show(rater).item
            if item is None or number != self._answered(rater):
                raise Stale("this question is answered already")
            self.votes.cast_vote(vote_on(item, number, rater, choice, note))
            self._undone.pop(rater, None)

    def undo(self, rater: str, number: int) -> None:
        with self._lock:
            if not number or number != self._answered(rater):
                raise Stale("there is nothing to take back")
            self._undone[rater] = self.votes.undo(rater)

    def _plan(self, rater: str) -> list[Item]:
        if rater not in self._plans:
            begun = self.votes.begun
            pairs = list(self.votes.pairs.values())
            self._plans[rater] = plan(pairs, begun["seed"], rater, begun["repeats"])
        return self._plans[rater]

    def _answered(self, rater: str) -> int:
        return len(self.votes.cast.get(rater, ()))


def vote_on(item: Item, number: int, rater: str, choice: Choice, note: str) -> Vote:
    """The vote that a press means, now."""
    return Vote(
        rater=rater,
        item=number,
        pair=item.pair.key,
        left=item.left,
        choice=choice,
        note=note.strip()[:LONGEST_NOTE],
        at=now(),
    )


def _shown(item: Item) -> tuple[str, int]:
    return item.pair.key, item.left


def _seen(vote: Vote) -> tuple[str, int]:
    return vote.pair, vote.left
