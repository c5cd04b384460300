"""Oracles of single questions (rules in Python, judges behind HTTP, models in memory): retries, stored verdicts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from equipoise.core.links import bradley_terry
from equipoise.oracles.protocol import OracleError, OraclePrompt, Room, shortened
from equipoise.oracles.verdicts import Verdict, VerdictStore, key_of

Question: TypeAlias = tuple[Any, ...]  # (prompt, a, b) or (prompt, response)
Ask: TypeAlias = Callable[..., Awaitable[Verdict]]  # (prompt, a, b) or (prompt, response) -> Verdict


class Failure(Exception):
    """A question without a verdict.

    transient  whether asking again may help: a rate limit, a timeout, an answer that cannot be parsed
    after      seconds that the server asks to wait, or None
    """

    def __init__(self, reason: str, *, transient: bool, after: float | None = None) -> None:
        self.transient, self.after = transient, after
        super().__init__(reason)


@runtime_checkable
class Questioner(Protocol):
    """An oracle that answers one question at a time.

    name      as the user gave it
    fingerprint  name and everything that its verdicts depend on: two oracles of one fingerprint share verdicts
    scores    whether it scores one response; False: it compares two
    both_orders  whether it prefers positions, so that comparisons are asked in both orders unless told otherwise
    open      a session in which questions are asked as the policy says; its `ask` raises Failure for a question
              without a verdict
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def scores(self) -> bool: ...

    @property
    def both_orders(self) -> bool: ...

    def open(self, policy: Policy) -> AbstractAsyncContextManager[Ask]: ...


@runtime_checkable
class Batched(Protocol):
    """An oracle of single questions that answers many at once: a model in memory.

    name, fingerprint, scores, both_orders   as of a `Questioner`
    batches(questions)   indices of the questions that are answered together, every one once. They depend on the
                         questions alone, stored verdicts or not, so that a repeated run rounds as the first one did
    answer(questions)    of one batch: a Verdict for each, or the Failure that there is instead
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def scores(self) -> bool: ...

    @property
    def both_orders(self) -> bool: ...

    def batches(self, questions: Sequence[Question]) -> Sequence[Sequence[int]]: ...

    def answer(self, questions: Sequence[Question]) -> Sequence[Verdict | Failure]: ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How questions are asked.

    concurrency   questions in flight at once
    retries       further attempts after a transient failure, with waits of `wait`, 2 `wait`, 4 `wait`, ... seconds
    failures      share of all questions that may end without a verdict, rounded up; their comparisons are left out
    both_orders   compare in both orders and average: (P(a > b) + 1 - P(b > a)) / 2; None: as the oracle needs it
    most_calls    most questions that this process may ask; None: no limit
    most_cost     most that the stored verdicts of this oracle may cost; None: no limit
    """

    concurrency: int = 1
    retries: int = 3
    wait: float = 1.0
    failures: float = 0.0
    both_orders: bool | None = None
    most_calls: int | None = None
    most_cost: float | None = None


@dataclass
class Account:
    """What was asked: `asked` attempts, `answered` new verdicts, `stored` verdicts read back, `failed` questions.

    compared, disagreed  comparisons asked in both orders, and those in which the two orders prefer different responses
    cost                 of the new verdicts
    """

    asked: int = 0
    answered: int = 0
    stored: int = 0
    failed: int = 0
    compared: int = 0
    disagreed: int = 0
    cost: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)

    def since(self, before: Account) -> dict[str, Any]:
        """The difference to an earlier account, as plain data; reasons of failures with their numbers."""
        numbers = {
            name: getattr(self, name) - getattr(before, name)
            for name in ("asked", "answered", "stored", "failed", "compared", "disagreed", "cost")
        }
        reasons = {why: n - before.reasons.get(why, 0) for why, n in self.reasons.items()}
        return numbers | {"reasons": {why: n for why, n in reasons.items() if n}}


class Asking:
    """An oracle in batches, made of one that answers single questions.

    Equal questions are asked once; stored verdicts are not asked again, and every new one is stored when it comes.
    A question without a verdict is nan: it is never turned into a verdict, and the comparison is left out. Raises
    OracleError if more than `policy.failures` of the questions fail, or before a cap would be passed; all
    verdicts that came are kept.
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
    def scores(self) -> bool:
        return self.questioner.scores

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
        asked = self.policy.both_orders
        if not (self.questioner.both_orders if asked is None else asked):
            return self._answers(forth)
        back = list(zip(prompts, b, a, strict=True))
        there, again = self._answers([*forth, *back]).chunk(2)
        known = torch.isfinite(there) & torch.isfinite(again)
        opposed = known & ((there - 0.5) * (0.5 - again) < 0)
        self.account.compared += int(known.sum())
        self.account.disagreed += int(opposed.sum())
        return (1 + (there - again)) / 2  # exactly 1/2 for equal responses

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        if not self.questioner.scores:
            raise OracleError(f"{self.name} compares two responses; it has no scalar score")
        return self._answers(list(zip(prompts, responses, strict=True)))

    def to_ask(self, questions: Sequence[tuple[Any, ...]]) -> int:
        """How many of these questions have no stored verdict: what a call would ask (a dry run)."""
        keys = {key_of(self.fingerprint, question) for question in questions}
        return len(keys - self.store.get(keys).keys())

    def _answers(self, questions: Sequence[tuple[Any, ...]]) -> Tensor:
        keys = [key_of(self.fingerprint, question) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        known = self.store.get(distinct)
        self.account.stored += len(known)
        missing = {key: question for key, question in distinct.items() if key not in known}
        if missing:
            self._check_caps(len(missing))
            if isinstance(self.questioner, Batched):
                known |= self._ask_batches(self.questioner, distinct, missing)
            else:
                known |= _run(self._ask_all(self.questioner, missing, len(distinct)))
        return torch.tensor(
            [known[key].value if key in known else math.nan for key in keys], dtype=torch.float64
        )

    def _ask_batches(
        self, batched: Batched, questions: Mapping[bytes, Question], missing: Mapping[bytes, Question]
    ) -> dict[bytes, Verdict]:
        """Answer the batches that hold a missing question."""
        keys, found, failed = list(questions), dict[bytes, Verdict](), list[str]()
        allowed = self._failures_left(len(missing))
        for batch in batched.batches(list(questions.values())):
            chosen = [keys[i] for i in batch]
            if len(failed) > allowed or not any(key in missing for key in chosen):
                continue
            answers = batched.answer([questions[key] for key in chosen])
            for key, answer in zip(chosen, answers, strict=True):
                if key not in missing:
                    continue
                self.account.asked += 1
                if isinstance(answer, Failure):
                    self._failed(failed, answer)
                else:
                    self._check(answer, questions[key])
                    self._answered(found, key, answer)
                if self.answered:
                    self.answered(1)
        return self._within(failed, allowed, found, len(questions))

    async def _ask_all(
        self, questioner: Questioner, questions: Mapping[bytes, Question], total: int
    ) -> dict[bytes, Verdict]:
        found: dict[bytes, Verdict] = {}
        failed: list[str] = []
        waiting = iter(questions.items())
        allowed = self._failures_left(len(questions))

        async def work(ask: Ask, waiting: Iterator[tuple[bytes, Question]]) -> None:
            for key, question in waiting:
                if len(failed) > allowed:
                    return
                try:
                    verdict = await self._attempts(ask, question)
                except Failure as failure:
                    self._failed(failed, failure)
                else:
                    self._answered(found, key, verdict)
                if self.answered:
                    self.answered(1)

        async with questioner.open(self.policy) as ask:
            workers = min(self.policy.concurrency, len(questions))
            await asyncio.gather(*(work(ask, waiting) for _ in range(workers)))
        return self._within(failed, allowed, found, total)

    def _answered(self, found: dict[bytes, Verdict], key: bytes, verdict: Verdict) -> None:
        found[key] = verdict
        self.store.put(key, self.fingerprint, verdict)
        self.account.answered += 1
        self.account.cost += verdict.cost

    def _failed(self, failed: list[str], failure: Failure) -> None:
        failed.append(str(failure))
        self.account.reasons[str(failure)] = self.account.reasons.get(str(failure), 0) + 1

    def _within(
        self, failed: Sequence[str], allowed: int, found: dict[bytes, Verdict], total: int
    ) -> dict[bytes, Verdict]:
        """What was found. Raises OracleError if too many questions have failed."""
        self.account.failed += len(failed)
        if len(failed) > allowed:
            raise OracleError(self._too_many(failed, len(found), total))
        return found

    def _failures_left(self, more: int) -> int:
        """How many of `more` questions may fail, when a share of all questions so far may."""
        asked = self.account.answered + self.account.stored + self.account.failed + more
        return math.ceil(self.policy.failures * asked - 1e-9) - self.account.failed

    async def _attempts(self, ask: Ask, question: tuple[Any, ...]) -> Verdict:
        attempt = 0
        while True:
            self.account.asked += 1
            try:
                verdict = await ask(*question)
                break
            except Failure as failure:
                if not failure.transient or attempt == self.policy.retries:
                    raise
                await asyncio.sleep(failure.after or self.policy.wait * 2**attempt)
                attempt += 1
        self._check(verdict, question)
        return verdict

    def _check(self, verdict: Verdict, question: tuple[Any, ...]) -> None:
        if not math.isfinite(verdict.value):
            raise OracleError(
                f"oracle {self.name}: returned {verdict.value} for {shortened(question[-1])}; a verdict is a finite "
                "number"
            )
        if not self.questioner.scores and not 0 <= verdict.value <= 1:
            raise OracleError(
                f"oracle {self.name} answered {verdict.value!r} for {shortened(question[1])} against "
                f"{shortened(question[2])}; compare must return a probability in [0, 1]"
            )

    def _check_caps(self, count: int) -> None:
        most, spent = self.policy.most_calls, self.account.answered
        if most is not None and spent + count > most:
            raise OracleError(
                f"oracle {self.name}: {count:,} more questions would pass judging.most_calls = {most:,} "
                f"({spent:,} asked); raise the limit, or lower play.prompts or play.samples"
            )
        if self.policy.most_cost is None:
            return
        answered, cost = self.store.spent(self.fingerprint)
        expected = cost / answered * count if answered else 0.0
        if cost + expected > self.policy.most_cost:
            raise OracleError(
                f"oracle {self.name}: {count:,} more questions, about {expected:.4g}, would pass judging.most_cost = "
                f"{self.policy.most_cost:.4g} ({cost:.4g} spent); raise the limit, or ask fewer questions"
            )

    def _too_many(self, failed: Sequence[str], found: int, total: int) -> str:
        kept = "all verdicts that came are kept" if self.kept else "verdicts are not stored"
        return (
            f"oracle {self.name}: {len(failed):,} of {total:,} questions have no verdict: {failed[0]}; "
            f"{found:,} answered, {kept}: repeat the command to ask the others, or let a share of the questions "
            "fail with judging.failures"
        )


def _run(asking: Awaitable[dict[bytes, Verdict]]) -> dict[bytes, Verdict]:
    """Run to the end from ordinary code, also inside a notebook, whose event loop is already running."""

    async def main() -> dict[bytes, Verdict]:
        return await asking

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, main()).result()
