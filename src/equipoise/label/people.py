"""People as a run's oracle: a page is opened, questions wait there, and a vote is stored when it comes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from equipoise.data.records import template_kwargs_of, tools_of
from equipoise.label.desk import Shown, Stale, vote_on
from equipoise.label.pairs import Pair
from equipoise.label.plan import Item
from equipoise.label.votes import CHOICES, Choice, Vote, Votes, claim
from equipoise.oracles.file import OracleFile, settings_of
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.questioner import Ask, Failure, Policy
from equipoise.oracles.questions.verdicts import Verdict
from equipoise.play.seeds import Seeds

VOTES = "votes.jsonl"
DECIDED: tuple[Choice, ...] = ("a", "b", "tie")


class PeopleFile(OracleFile):
    """People, as their YAML file says.

    question   what they are asked
    rater      who answers, as it will stand in the votes file
    port       of the page on 127.0.0.1; 0: a free one
    seed       of the sides
    """

    question: str = "Which answer is better?"
    rater: str = Field("people", pattern=r"^\w[\w .@+-]{0,39}$")
    port: int = Field(0, ge=0, le=65535)
    seed: int = 0


@dataclass
class WaitingDesk:
    """A desk to which a run brings its questions while it waits. Safe in several threads.

    A vote is on the disk at once, and is given to the run when the next one is cast or no question is left: until then
    it can be taken back.
    """

    votes: Votes
    rater: str
    question: str
    seed: int
    choices: Sequence[Choice] = DECIDED
    _items: list[Item] = field(default_factory=list)
    _answers: dict[str, Future[Vote]] = field(default_factory=dict)
    _held: Vote | None = None
    _undone: Vote | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._known = {vote.pair: vote for vote in self.votes.cast[self.rater] if vote.choice in DECIDED}
        self._number = len(self.votes.cast[self.rater])

    def ask(self, pair: Pair) -> Future[Vote]:
        """The vote on a pair, known or to come."""
        with self._lock:
            if pair.key in self._known:
                done: Future[Vote] = Future()
                done.set_result(self._known[pair.key])
                return done
            if pair.key not in self._answers:
                self.votes.add(pair)
                left = int(Seeds(self.seed).generator("side", pair.key).integers(2))
                self._items.append(Item(self.votes.pairs[pair.key], left))
                self._answers[pair.key] = Future()
            elif self._answers[pair.key].cancelled():  # a call that was interrupted and came again
                self._answers[pair.key] = Future()
            return self._answers[pair.key]

    def show(self, rater: str) -> Shown:
        with self._lock:
            item = self._items[0] if self._items else None
            undone = self._undone
            before = undone if undone and item and undone.pair == item.pair.key else None
            return Shown(
                item=item,
                number=self._number,
                total=self._number + len(self._items),
                undo=self._held is not None,
                before=before,
                waiting=True,
            )

    def choose(self, rater: str, number: int, choice: Choice, note: str = "") -> None:
        with self._lock:
            if not self._items or number != self._number:
                raise Stale("this question is answered already")
            vote = vote_on(self._items[0], number, rater, choice, note)
            self.votes.cast_vote(vote)
            self._items.pop(0)
            self._number += 1
            self._release()
            self._held, self._undone = vote, None
            if not self._items:
                self._release()

    def undo(self, rater: str, number: int) -> None:
        with self._lock:
            if self._held is None or number != self._number:
                raise Stale("there is nothing to take back")
            self._undone = self.votes.undo(rater)
            self._items.insert(0, Item(self.votes.pairs[self._held.pair], self._held.left))
            self._number -= 1
            self._held = None

    def _release(self) -> None:
        """Give the held vote to the run: it can no longer be taken back."""
        if self._held is not None:
            vote, self._held = self._held, None
            if vote.choice in DECIDED:
                self._known[vote.pair] = vote
            answer = self._answers.pop(vote.pair)
            if answer.set_running_or_notify_cancel():
                answer.set_result(vote)


class PeopleOracle:
    """People who say which of two responses is better, on a page of this machine.

    A pair is asked once, whichever order a run has its responses in: sides are drawn by seed. P(a > b) is 1, 0 or 1/2
    for a tie; "both bad" and "skip" are questions without a verdict, and are offered where some may be
    (`judging.failures`). Votes are kept in a votes file, whatever becomes of the run, and none is asked again.
    """

    scores, both_orders = False, False
    mirrored, together = True, 256

    def __init__(self, file: PeopleFile, name: str, votes: Path) -> None:
        self.file, self.name, self.votes = file, name, votes
        about = json.dumps([file.question, file.rater])
        self.fingerprint = f"people {hashlib.sha256(about.encode()).hexdigest()[:16]}"
        self._desk: WaitingDesk | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path, placement: Placement) -> PeopleOracle:
        """People as a YAML file's settings say. Raises OracleError that names the file and the setting."""
        said = settings_of(PeopleFile, settings, file)
        try:
            import starlette  # noqa: F401 - said before a model is loaded, not at the first question
            import uvicorn  # noqa: F401
        except ImportError as error:
            raise OracleError("asking people needs a server: pip install 'equipoise[label]'") from error
        folder = placement.folder or Path()
        return cls(said, str(file), folder / VOTES)

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        """The page, opened at the first question and there until the process ends."""
        desk = self._desk = self._desk or self._opened()
        desk.choices = CHOICES if policy.failures > 0 else DECIDED

        async def ask(prompt: OraclePrompt, first: str, second: str) -> Verdict:
            pair = Pair(
                context=prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt],
                answers=(first, second),
                tools=tools_of(prompt),
                template_kwargs=template_kwargs_of(prompt),
            )
            vote = await asyncio.wrap_future(desk.ask(pair))
            value = vote.value
            if value is None:
                said = "both are bad" if vote.choice == "bad" else "skipped"
                raise Failure(f"a person said: {said}", transient=False)
            turned = desk.votes.pairs[vote.pair].answers != pair.answers
            about = {"rater": vote.rater, "at": vote.at, "choice": vote.choice, "left": vote.left}
            return Verdict(1 - value if turned else value, about=about | {"note": vote.note})

        yield ask

    def _opened(self) -> WaitingDesk:
        from equipoise.label.server import Page

        file = self.file
        self._lock = claim(self.votes)
        votes = Votes.begin(self.votes, None, seed=file.seed, question=file.question, asked="by a run")
        desk = WaitingDesk(votes, file.rater, file.question, file.seed)
        self._page = Page(desk, file.port, file.rater)
        self._page.start()
        print(f"  people    questions wait at {self._page.address}", file=sys.stderr, flush=True)
        return desk
