"""Oracles asked one question at a time (rules in Python, judges behind HTTP): concurrency, retries, stored verdicts."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from equipoise.core.links import bradley_terry
from equipoise.json_http import completed
from equipoise.oracles.account import Account
from equipoise.oracles.protocol import OracleError, OraclePrompt, Room, shortened
from equipoise.oracles.questions.questioner import (
    Ask,
    Batched,
    Failure,
    Mirrored,
    Policy,
    Priced,
    Question,
    Questioner,
    WithAttributes,
)
from equipoise.oracles.questions.verdicts import Verdict, VerdictStore, key_of

LONGEST_WAIT = 60.0  # seconds between two attempts, where the server asks for none
LONGEST_ASKED = 120.0  # a server that asks for more is not waited for
UNREADABLE = (
    "unreadable"  # in `about` of a verdict that stands for answers that cannot be read: the last reason
)
OTHERS = 0.05  # seconds until a question that another process asks is looked for again


@dataclass
class _Call:
    """One call's questions: those that wait, what was found, and why it stops early."""

    waiting: deque[tuple[bytes, Question]]
    allowed: int  # how many may fail
    spent: float  # the oracle's cost before the call
    found: dict[bytes, Verdict] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    in_flight: int = 0
    refused: OracleError | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, reason: str) -> None:
        self.failed.append(reason)
        if len(self.failed) > self.allowed:
            self.stopped.set()

    def refuse(self, error: OracleError) -> None:
        self.refused = self.refused or error
        self.stopped.set()

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the call stops."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), seconds)


class Asking:
    """An oracle in batches, made of one that answers single questions.

    Equal questions are asked once; stored verdicts are not asked again, and every new one is stored when it comes. A
    question that another process with the same store is asking is waited for. A question without a verdict is nan: it
    is never turned into a verdict, and the comparison is left out. Raises OracleError if more than `policy.failures`
    of the questions fail, or before a cap would be passed; questions in flight are then awaited, so that all verdicts
    that are paid for are kept.
    """

    may_fail = True

    def __init__(
        self,
        questioner: Questioner | Batched,
        store: VerdictStore | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.questioner, self.policy = questioner, policy or Policy()
        self.kept = store is not None  # beyond this process
        self.store = store or VerdictStore.in_memory()
        self.answered: Callable[[int], None] | None = None  # told the number of new answers, for progress
        self.account = Account()

    @property
    def name(self) -> str:
        return self.questioner.name

    @property
    def fingerprint(self) -> str:
        return self.questioner.fingerprint

    @property
    def both_orders(self) -> bool:
        """Whether comparisons are asked in both orders."""
        asked = self.policy.both_orders
        return not self.questioner.scores and (self.questioner.both_orders if asked is None else asked)

    @property
    def parts(self) -> tuple[Questioner | Batched]:
        return (self.questioner,)

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """What the oracle says of its context (`protocol.Room`); None if it says nothing."""
        return self.questioner.room(prompts) if isinstance(self.questioner, Room) else None

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        if self.questioner.scores:
            return bradley_terry(self.score(prompts, a), self.score(prompts, b))
        forth = list(zip(prompts, a, b, strict=True))
        if isinstance(self.questioner, Mirrored):
            return self._mirrored(forth)
        if not self.both_orders:
            return self._answers(forth)
        back = list(zip(prompts, b, a, strict=True))
        there, again = self._answers([*forth, *back]).chunk(2)
        known = torch.isfinite(there) & torch.isfinite(again)
        opposed = known & ((there - 0.5) * (0.5 - again) < 0)
        self.account.compared += int(known.sum())
        self.account.disagreed += int(opposed.sum())
        return (1 + (there - again)) / 2  # exactly 1/2 for equal responses

    def _mirrored(self, questions: Sequence[tuple[OraclePrompt, str, str]]) -> Tensor:
        """Each pair of different responses asked in the order of their texts."""
        answers = iter(self._answers([(p, min(a, b), max(a, b)) for p, a, b in questions if a != b]).tolist())
        probs = [0.5 if a == b else next(answers) if a < b else 1 - next(answers) for _, a, b in questions]
        return torch.tensor(probs, dtype=torch.float64)

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        if not self.questioner.scores:
            raise OracleError(f"{self.name} compares two responses; it has no scalar score")
        return self._answers(list(zip(prompts, responses, strict=True)))

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the scores of a response; none where the questioner gives one score or compares."""
        asked = self.questioner
        return tuple(asked.attributes) if isinstance(asked, WithAttributes) else ()

    def scores(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        """[N, A] the named scores of each response; one question gives them all, and the score of `score`."""
        if not self.attributes:
            raise OracleError(f"{self.name} has no named scores")
        found = self.verdicts(list(zip(prompts, responses, strict=True)))
        rows = [[v.scores[name] if v and v.scores else math.nan for name in self.attributes] for v in found]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(found), len(self.attributes))

    def to_ask(self, questions: Sequence[Question]) -> int:
        """How many of these questions have no stored verdict: what a call would ask (a dry run)."""
        keys = {key_of(self.fingerprint, question) for question in questions}
        return len(keys - self.store.get(keys).keys())

    def _answers(self, questions: Sequence[Question]) -> Tensor:
        found = self.verdicts(questions)
        return torch.tensor([v.value if v else math.nan for v in found], dtype=torch.float64)

    def verdicts(self, questions: Sequence[Question]) -> list[Verdict | None]:
        """The verdict on every question, None where there is none; what is not stored is asked."""
        keys = [key_of(self.fingerprint, question) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        known = self.store.get(distinct)
        self.account.stored += len(known)
        missing = {key: question for key, question in distinct.items() if key not in known}
        if missing:
            spent = self._check_caps(missing)
            call = _Call(deque(missing.items()), self._failures_left(len(missing)), spent - self.account.cost)
            if isinstance(self.questioner, Batched):
                self._ask_batches(self.questioner, distinct, call)
            else:
                completed(self._ask_all(self.questioner, call))
            known |= self._outcome(call, len(distinct))
        return [known.get(key) for key in keys]

    def _ask_batches(self, batched: Batched, questions: Mapping[bytes, Question], call: _Call) -> None:
        """Answer the batches that hold a question that waits."""
        keys, missing = list(questions), {key for key, _ in call.waiting}
        for batch in batched.batches(list(questions.values())):
            chosen = [keys[i] for i in batch]
            if call.stopped.is_set() or missing.isdisjoint(chosen):
                continue
            answers = batched.answer([questions[key] for key in chosen])
            for key, answer in zip(chosen, answers, strict=True):
                if key not in missing:
                    continue
                self.account.asked += 1
                if isinstance(answer, Failure):
                    self._failed(call, answer)
                else:
                    self._check(answer, questions[key])
                    self._found(call, key, answer)
                if self.answered:
                    self.answered(1)

    def _found(self, call: _Call, key: bytes, verdict: Verdict) -> None:
        call.found[key] = self.store.put(key, self.fingerprint, verdict)
        self.account.answered += 1

    def _failed(self, call: _Call, failure: Failure) -> None:
        call.fail(str(failure))
        self.account.fail(str(failure))

    def _outcome(self, call: _Call, total: int) -> dict[bytes, Verdict]:
        """What was found. Raises OracleError if the call was refused, or if too many questions have failed."""
        if call.refused:
            raise call.refused
        if len(call.failed) > call.allowed:
            raise OracleError(self._too_many(call.failed, len(call.found), total))
        return call.found

    async def _ask_all(self, questioner: Questioner, call: _Call) -> None:
        async with questioner.open(self.policy) as ask:
            wanted = questioner.together if isinstance(questioner, Mirrored) else 1
            workers = min(max(self.policy.concurrency, wanted), len(call.waiting))
            await asyncio.gather(*(self._work(ask, call) for _ in range(workers)))

    async def _work(self, ask: Ask, call: _Call) -> None:
        """Ask what waits, one question after another, until nothing waits or the call stops."""
        while call.waiting and not call.stopped.is_set():
            key, question = call.waiting.popleft()
            with self.store.claimed(key) as mine:
                if mine and (there := self.store.get([key])):  # another process has answered it by now
                    call.found |= there
                    self.account.stored += 1
                elif mine and self._may_spend(call, question):
                    call.in_flight += 1
                    await self._ask_one(ask, key, question, call)
                    call.in_flight -= 1
            if not mine:
                call.waiting.append((key, question))
                await call.pause(OTHERS)
            elif self.answered:
                self.answered(1)

    async def _ask_one(self, ask: Ask, key: bytes, question: Question, call: _Call) -> None:
        try:
            verdict = await self._attempts(ask, question, call)
        except Failure as failure:
            self._failed(call, failure)
        except OracleError as error:
            call.refuse(error)
        else:
            if verdict is not None:
                self._found(call, key, verdict)

    async def _attempts(self, ask: Ask, question: Question, call: _Call) -> Verdict | None:
        """The verdict on a question; None if the call stopped before one came."""
        attempt = 0
        while True:
            self.account.asked += 1
            try:
                verdict = await ask(*question)
                break
            except Failure as failure:
                self._charge(failure)
                if not failure.transient or attempt == self.policy.retries:
                    if failure.unreadable and self.policy.unreadable is not None:
                        return Verdict(self.policy.unreadable, about={UNREADABLE: str(failure)})
                    raise
                if (failure.after or 0.0) > LONGEST_ASKED:
                    raise Failure(
                        f"{failure}; the server asks to wait {failure.after:,.0f} s", transient=False
                    ) from failure
                wait = min(self.policy.wait * 2**attempt, LONGEST_WAIT) * (1 - random.random() / 4)
                await call.pause(wait if failure.after is None else failure.after)
                if call.stopped.is_set():
                    return None
                attempt += 1
        self.account.cost += verdict.cost
        self._check(verdict, question)
        return verdict

    def _charge(self, failure: Failure) -> None:
        """An answer that could not be read costs what it costs."""
        if failure.cost:
            self.account.cost += failure.cost
            self.store.lose(self.fingerprint, failure.cost, str(failure))

    def _failures_left(self, more: int) -> int:
        """How many of `more` questions may fail, when a share of all questions so far may."""
        asked = self.account.answered + self.account.stored + self.account.failed + more
        return max(0, math.ceil(self.policy.failures * asked - 1e-9) - self.account.failed)

    def _check(self, verdict: Verdict, question: Question) -> None:
        if not math.isfinite(verdict.value):
            raise OracleError(
                f"oracle {self.name}: returned {verdict.value} for {shortened(question[-1])}; a verdict is a finite "
                "number"
            )
        scores = verdict.scores or {}
        missing = [name for name in self.attributes if not math.isfinite(scores.get(name, math.nan))]
        if missing:
            raise OracleError(
                f"oracle {self.name}: no finite score {missing[0]!r} for {shortened(question[-1])}; its attributes are "
                f"{', '.join(self.attributes)}"
            )
        if not self.questioner.scores and not 0 <= verdict.value <= 1:
            raise OracleError(
                f"oracle {self.name} answered {verdict.value!r} for {shortened(question[1])} against "
                f"{shortened(question[2])}; compare must return a probability in [0, 1]"
            )

    def _check_caps(self, questions: dict[bytes, Question]) -> float:
        """What the oracle has cost so far. Raises OracleError if these questions would pass a cap."""
        count, most = len(questions), self.policy.most_calls
        asked = self.account.answered + self.account.failed
        if most is not None and asked + count > most:
            raise OracleError(
                f"oracle {self.name}: {count:,} more questions would pass judging.most_calls = {most:,} "
                f"({asked:,} asked); raise the limit (--most-calls of a command), or lower play.prompts or "
                "play.samples"
            )
        if self.policy.most_cost is None:
            return 0.0
        answered, cost = self.store.spent(self.fingerprint)
        expected = cost / answered * count if answered else sum(map(self._estimate, questions.values()))
        if cost + expected > self.policy.most_cost:
            raise OracleError(
                f"oracle {self.name}: {count:,} more questions, about {expected:.4g}, would pass judging.most_cost = "
                f"{self.policy.most_cost:.4g} ({cost:.4g} spent); raise the limit, or ask fewer questions"
            )
        return cost

    def _estimate(self, question: Question) -> float:
        priced = self.questioner
        return priced.estimate(*question).cost if isinstance(priced, Priced) else 0.0

    def _may_spend(self, call: _Call, question: Question) -> bool:
        """Whether the limit of cost allows one more question than those in flight; stops the call if not."""
        most = self.policy.most_cost
        if most is None:
            return True
        cost = call.spent + self.account.cost
        if cost + (call.in_flight + 1) * self._estimate(question) <= most and cost < most:
            return True
        call.refuse(
            OracleError(
                f"oracle {self.name}: one more question would pass judging.most_cost = {most:.4g} ({cost:.4g} spent); "
                "all verdicts that came are kept: raise the limit and repeat the command"
            )
        )
        return False

    def _too_many(self, failed: Sequence[str], found: int, total: int) -> str:
        kept = "all verdicts that came are kept" if self.kept else "verdicts are not stored"
        return (
            f"oracle {self.name}: {len(failed):,} of {total:,} questions have no verdict: {failed[0]}; "
            f"{found:,} answered, {kept}: repeat the command to ask the others, or let a share of the questions "
            "fail (judging.failures of a run, --failures of an evaluation)"
        )
