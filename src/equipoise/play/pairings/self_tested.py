"""Minimax pairs of self-written code and tests (DSTC): the best code with its hardest test, against one that fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from equipoise.play.capabilities import MismatchedPrompts, SelfWrittenTests, needing
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.rows import Rows, objects
from equipoise.play.state import State
from equipoise.play.world import World

JOINED = "```python\n{code}\n```\n\n```python\n{test}\n```"


class Choice(NamedTuple):
    """A preference pair of one problem: places of the chosen code and test, and of the rejected ones."""

    code: int
    test: int
    rejected_code: int
    rejected_test: int


def minimax(passed: npt.NDArray[np.bool_], read: npt.NDArray[np.bool_]) -> Choice | None:
    """The minimax choice from a table of passes; None if there is none, as where all pass or none does.

        j' = argmax_j sum_k r_jk                                     the best code
        k' = argmin_k sum_j r_jk      with r_j'k = 1                 the hardest test that it passes
        k* = argmax_k sum_j r_jk      with sum_j r_jk < J            the easiest test that some code fails
        j* = argmin_j sum_k r_jk      with r_jk* = 0                 the worst code that fails it

    passed   [J, K] r_jk.         read   [K] tests that can be read; the others take no part.

    Ties go to the lowest index. r_j'k' = 1 and r_j*k* = 0 always.

    Source: Liu et al. 2024 (2411.13611), at second hand; the last line and the ties are RECALLED.
    """
    if not read.any():
        return None
    of_code, of_test = (passed & read).sum(axis=1), passed.sum(axis=0)
    best = int(of_code.argmax())
    own, missed = read & passed[best], read & (of_test < len(passed))
    if not own.any() or not missed.any():
        return None
    hardest = int(np.where(own, of_test, len(passed) + 1).argmin())
    easiest = int(np.where(missed, of_test, -1).argmax())
    failing = ~passed[:, easiest]
    worst = int(np.where(failing, of_code, passed.shape[1] + 1).argmin())
    return Choice(best, hardest, worst, easiest)


@dataclass(frozen=True, kw_only=True)
class SelfTested(Pairing):
    """Minimax pairs: chosen code and chosen test, concatenated, against rejected code and rejected test.

    codes    number of leading columns that are codes; the others are tests.
    joined   how code and test become one response; holds `{code}` and `{test}`.
    labels   "pairs": preference pairs (DPO); "single": each response by itself, desirable or not, with a response to
             another problem for the KL estimate (KTO).

    Problems without a choice give no pair. Raises ValueError for a form without its places.
    """

    codes: int = 8
    joined: str = JOINED
    labels: Literal["pairs", "single"] = "pairs"
    parameters: ClassVar[tuple[str, ...]] = ("codes", "joined")

    def __post_init__(self) -> None:
        if "{code}" not in self.joined or "{test}" not in self.joined:
            raise ValueError("joined must hold {code} and {test}, the places of a program and its test")

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (SelfWrittenTests,) if self.labels == "pairs" else (SelfWrittenTests, MismatchedPrompts)

    def check(self, width: int) -> None:
        if not 2 <= self.codes < width:
            raise ValueError(
                f"need at least two codes and a test, got {width} responses with {self.codes} codes"
            )

    def comparisons(self, width: int) -> int:
        return 1 if self.labels == "pairs" else 2

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        bench = needing(world, SelfWrittenTests)
        tables = bench.pass_tables(state, rows, self.codes)
        choices = [minimax(*table) for table in zip(tables.passed, tables.read, strict=True)]
        kept = np.array([place for place, choice in enumerate(choices) if choice], dtype=np.intp)
        picked = np.array([choice for choice in choices if choice], dtype=np.intp).reshape(-1, 4)
        left = rows.take(kept)
        sides = [
            bench.concatenated(left, picked[:, code], self.codes + picked[:, code + 1], self.joined)
            for code in (0, 2)
        ]
        written = np.array([None not in pair for pair in zip(*sides, strict=True)], dtype=bool)
        pairs = replace(
            left,
            responses=objects([list(pair) for pair in zip(*sides, strict=True)], width=2),
            writers=("chosen", "rejected"),
            prob=np.ones(len(left)),
            reward=None,
        ).take(written)
        if self.labels == "pairs":
            return pairs
        return needing(world, MismatchedPrompts).unrelated(state, pairs.alone())

    def describe(self) -> str:
        kind = "pairs" if self.labels == "pairs" else "single labelled responses"
        return f"{kind} by minimax choice of code and test from what passes what"
