"""Oracle queries in batches: verdicts on pairs of responses, and win rates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.data.collate import Ids
from equipoise.oracles.account import Account, Accounted
from equipoise.oracles.checked import unwrapped
from equipoise.oracles.protocol import (
    Attributed,
    Counting,
    Oracle,
    OracleError,
    SeesPolicy,
    Uncertain,
    parts_that,
)
from equipoise.play.rows import Rows
from equipoise.play.state import Floats
from equipoise.policy.checkpoint import stored_fingerprint
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.held_model import HeldModel
from equipoise.worlds.text.ranks import Places, Ranks

log = logging.getLogger(__name__)
JUDGE_BATCH = 256
FEW = 10  # comparisons in both orders, from which their disagreement is told


@dataclass(kw_only=True)
class Judge:
    """An oracle, queried in batches; None if the method only reads recorded labels.

    asked       called with the number of new answers, for progress
    unjudged    prompts of which a verdict is missing, since the last call of `judged`
    model       the model in memory, which a self-judging oracle asks
    policy      checkpoint of the policy that such an oracle asks; set by `judged_by`
    ranks       the processes that ask
    calls       questions that were put to the oracle: comparisons, or responses to be scored
    """

    oracle: Oracle | None
    model: HeldModel | None = None
    policy: Path | None = None
    ranks: Ranks = field(default_factory=lambda: Ranks(Accelerator()))
    asked: Callable[[int], None] = lambda count: None
    unjudged: set[Ids] = field(default_factory=set)
    calls: int = 0
    _before: dict[int, Account] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inner = unwrapped(self.oracle)
        self.counting = isinstance(self.inner, Counting)
        self.alone = any(True for _ in parts_that(self.oracle, Counting))  # asked by the first process
        self.seeing = list(parts_that(self.oracle, SeesPolicy))
        if isinstance(self.inner, Counting):
            self.inner.answered = self.asked

    def compare(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> Floats:
        """P(response first[i] beats response second[i]) of every row. Raises OracleError without an oracle."""
        if self.oracle is None:
            raise OracleError("this method needs an oracle that compares two responses; give --oracle")
        self.calls += len(rows)
        oracle, (contexts, texts) = self.oracle, asked_about(rows, first, second)
        wins = self._answers(len(rows), lambda at: oracle.compare(*_at(at, contexts, *texts))).numpy()
        missing = np.isnan(wins)
        self.unjudged |= {prompt.ids for prompt in rows.prompts[missing]}
        return np.where(missing, 0.5, wins)  # left out by `judged`

    def rewards(self, rows: Rows) -> Floats:
        """[N, K] the oracle's score of every response; a prompt with a missing one is left out by `judged`.

        Raises OracleError without an oracle, and for one that has no scalar score.
        """
        if self.oracle is None:
            raise OracleError("this method needs an oracle that scores a response; give --oracle")
        count = rows.responses.shape[1]
        contexts = [prompt.context for prompt in rows.prompts for _ in range(count)]
        texts = [response.text for response in rows.responses.reshape(-1)]
        self.calls += len(texts)
        oracle = self.oracle
        scores = self._answers(len(texts), lambda at: oracle.score(*_at(at, contexts, texts)))
        rewards = scores.numpy().reshape(len(rows), count)
        missing = np.isnan(rewards)
        self.unjudged |= {prompt.ids for prompt in rows.prompts[missing.any(axis=1)]}
        return np.where(missing, 0.0, rewards)

    def votes(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> Floats:
        """[T, N] the votes of an uncertain oracle that response first[i] beats response second[i].

        Raises OracleError for an oracle without votes.
        """
        if not isinstance(self.inner, Uncertain):
            raise OracleError(
                "this needs an oracle that says how uncertain it is; give one of kind ensemble or mc_dropout"
            )
        self.calls += len(rows)
        contexts, texts = asked_about(rows, first, second)
        inner = self.inner

        def voted() -> dict[str, Tensor]:
            with self._shown():
                return {"votes": inner.votes(contexts, *texts).double()}

        votes = self.ranks.from_first(voted)["votes"]  # one call: its random passes are addressed by it
        if bool((votes.isinf() | (votes < 0) | (votes > 1)).any()):
            raise OracleError(f"oracle {self.inner.name}: a vote is not a probability")
        missing = votes.isnan().any(dim=0).numpy()
        self.unjudged |= {prompt.ids for prompt in rows.prompts[missing]}
        return np.where(missing, 0.5, votes.numpy())

    def named_scores(self, rows: Rows) -> dict[str, Floats]:
        """Name -> [N, K] the oracle's named scores of every response. Raises OracleError for an oracle without any."""
        names = self.inner.attributes if isinstance(self.inner, Attributed) else ()
        if not isinstance(self.oracle, Attributed) or not names:
            raise OracleError(
                "this needs an oracle with several named scores, such as rewards of groups of users "
                "(`equipoise oracle train groups`)"
            )
        self.calls += rows.responses.size
        found = np.empty((len(names), *rows.responses.shape))
        oracle, contexts = self.oracle, [prompt.context for prompt in rows.prompts]
        for column in range(rows.responses.shape[1]):
            texts = [response.text for response in rows.responses[:, column]]
            scores = self._answers(len(rows), lambda at, said=texts: oracle.scores(*_at(at, contexts, said)))
            found[:, :, column] = scores.numpy().T
        missing = np.isnan(found).any(axis=(0, 2))
        self.unjudged |= {prompt.ids for prompt in rows.prompts[missing]}
        return dict(zip(names, np.where(np.isnan(found), 0.0, found), strict=True))

    def _answers(self, count: int, ask: Callable[[Places], Tensor]) -> Tensor:
        """[N, ...] answers to N questions, float64: dealt among the processes, if the oracle answers whole batches.

        One that asks single questions, of a server or with a bill, is asked by the first process alone, which keeps its
        cache, its limits and its account; and is given all at once: a batch would wait for its slowest answer.
        """

        def share(places: Places) -> dict[str, Tensor]:
            parts = [torch.empty(0, dtype=torch.float64)] if not len(places) else []
            size = max(1, len(places)) if self.counting else JUDGE_BATCH
            with self._shown():
                for begin in range(0, len(places), size):
                    parts.append(ask(places[begin : begin + size]).double())
                    if not self.counting:
                        self.asked(len(parts[-1]))
            return {"answers": torch.cat(parts)}

        if self.alone:
            return self.ranks.from_first(lambda: share(np.arange(count)))["answers"]
        return self.ranks.rows(count, share)["answers"]

    @contextmanager
    def judged_by(self, policy: Path) -> Iterator[None]:
        """Context manager: a self-judging oracle asks the policy of this checkpoint."""
        before, self.policy = self.policy, policy
        try:
            yield
        finally:
            self.policy = before

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Context manager: the policy that judges is in memory, and every oracle that asks it has seen it."""
        if not self.seeing:
            yield
            return
        if self.model is None or self.policy is None:
            raise OracleError("a self-judging oracle is asked outside of a round")
        with self.model.playing(self.policy) as policy:
            for oracle in self.seeing:
                oracle.see(policy, stored_fingerprint(self.policy))
            yield

    def accounts(self) -> list[tuple[str, dict[str, Any]]]:
        """What each oracle was asked since the last call, by name: calls, stored verdicts, failures, disagreements."""
        lines = []
        for place, oracle in enumerate(parts_that(self.oracle, Accounted)):
            before = self._before.get(place, Account())
            if oracle.account != before:
                self._before[place] = oracle.account.copy()
                lines.append((oracle.name, oracle.account.since(before)))
        return lines

    def note(self, journal: Journal, round: int, stage: str) -> None:
        """Write into judging.jsonl what was asked since the last note: a line for the oracle, or for each member.

        The first process writes; what others asked of their shares is not in these lines.
        """
        if not self.ranks.first:
            return
        composed = not isinstance(self.inner, Accounted)
        for name, asked in self.accounts():
            about = {"oracle": name} if composed else {}
            journal.append("judging.jsonl", {"round": round, "stage": stage, **about, **asked})
            if asked["compared"] >= FEW and asked["disagreed"] > asked["compared"] / 2:
                log.warning(
                    "%s prefers the same position in both orders in %d of %d comparisons: it says little about the "
                    "responses",
                    f"the oracle {name}" if composed else "the oracle",
                    asked["disagreed"],
                    asked["compared"],
                )

    def judged(self, rows: Rows) -> Rows:
        """The rows of those prompts whose verdicts all came; the others are left out, never guessed."""
        without, self.unjudged = self.unjudged, set()
        if not without:
            return rows
        kept = np.array([prompt.ids not in without for prompt in rows.prompts], dtype=bool)
        if not kept.any():
            raise OracleError(f"no prompt got all of its verdicts ({len(without):,} prompts)")
        log.warning(
            "%d prompts are left out: an oracle gave no verdict on some of their responses", len(without)
        )
        return rows.take(kept)

    def against(self, rows: Rows, own: int, of: Callable[[Floats], Floats]) -> Floats:
        """[N, own] mean of f(P(y_k beats y')) for the first `own` columns, over all other columns y'."""
        every, opponents = np.arange(len(rows)), rows.responses.shape[1] - own
        rates = np.zeros((len(rows), own))
        for k in range(own):
            for j in range(own, own + opponents):
                rates[:, k] += of(self.compare(rows, np.full_like(every, k), np.full_like(every, j)))
        return rates / opponents

    def among(self, rows: Rows, of: Callable[[Floats], Floats]) -> Floats:
        """[N, K] mean of f(P(y_k beats y_j)) of each column over the other columns. Raises ValueError for K < 2."""
        every, own = np.arange(len(rows)), rows.responses.shape[1]
        if own < 2:
            raise ValueError(f"a leave-one-out win rate needs at least two responses per prompt, got {own}")
        rates = np.zeros((len(rows), own))
        for k, j in combinations(range(own), 2):
            wins = self.compare(rows, np.full_like(every, k), np.full_like(every, j))
            rates[:, k] += of(wins)
            rates[:, j] += of(1 - wins)
        return rates / (own - 1)


def asked_about(rows: Rows, first: np.ndarray, second: np.ndarray) -> tuple[list[Any], list[list[str]]]:
    """(prompts as an oracle reads them, texts of the first and of the second responses)."""
    every = np.arange(len(rows))
    texts = [[response.text for response in rows.responses[every, column]] for column in (first, second)]
    return [prompt.context for prompt in rows.prompts], texts


def _at(places: Places, *columns: Sequence[Any]) -> list[list[Any]]:
    return [[column[place] for place in places] for column in columns]
