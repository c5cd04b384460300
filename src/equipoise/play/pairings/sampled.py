"""Pairs of sampled responses with oracle labels, and win rates as rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from equipoise.play.capabilities import RandomDraws, needing
from equipoise.play.decoding import AS_SET, Decode
from equipoise.play.needs import NOTHING, ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.rows import Rows
from equipoise.play.state import START, Floats, Geometric, State, Who
from equipoise.play.world import World

Columns = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Pairs(Pairing):
    """Pairs of i.i.d. responses: disjoint ones (0, 1), (2, 3), ..., or all K (K - 1)/2 of them.

    labels     "soft": the oracle's probability; "bernoulli": a draw from it; "own": no oracle queries, the objective
               labels the pairs itself.
    every      all pairs instead of disjoint ones: the smallest variance at the largest cost.
    equal      keep pairs of equal responses. They are ties without a gradient for an objective that reads only the
               margin of a pair; for one that reads each response, dropping them is a bias.
    rewards    return the label p also as rewards (p, 1 - p).

    Soft or drawn labels, disjoint or all pairs have the same expected gradient, that of one i.i.d. pair, under which
    the squared losses are exact regressions on win rates.
    """

    labels: Literal["soft", "bernoulli", "own"] = "soft"
    every: bool = False
    equal: bool = False
    rewards: bool = False

    @property
    def needs(self) -> Needs:
        return NOTHING if self.labels == "own" else ORACLE

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (RandomDraws,) if self.labels == "bernoulli" else ()

    def check(self, width: int) -> None:
        if width < 2 or (width % 2 and not self.every):
            need = "at least two responses" if self.every else "an even number of responses"
            raise ValueError(
                f"{'all' if self.every else 'disjoint'} pairs need {need} per prompt, got {width}"
            )

    def comparisons(self, width: int) -> int:
        return width * (width - 1) // 2 if self.every else width // 2

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        count = rows.responses.shape[1]
        self.check(count)
        disjoint = ((a, a + 1) for a in range(0, count, 2))
        parts = []
        for a, b in combinations(range(count), 2) if self.every else disjoint:
            first, second = np.full(len(rows), a), np.full(len(rows), b)
            pairs = rows.columns([first, second])
            if self.labels != "own":
                prob = world.compare(rows, first, second)
                if self.labels == "bernoulli":
                    draws = needing(world, RandomDraws).uniforms(state, f"label-{a}-{b}", len(rows))
                    prob = (draws < prob).astype(np.float64)
                reward = np.stack([prob, 1 - prob], axis=1) if self.rewards else None
                pairs = replace(pairs, prob=prob, reward=reward)
            parts.append(pairs if self.equal else distinct(pairs))
        return Rows.join(parts)

    def describe(self) -> str:
        return f"{'all' if self.every else 'disjoint'} i.i.d. pairs, {self.labels} labels"


@dataclass(frozen=True)
class Tournament(Pairing):
    """Tournament selection (INPO): a winners' and a losers' bracket over K = 2^m responses, then a deciding match.

    After matches on disjoint pairs, the winners play on for y_w, the losers (each loser advancing) for y_l; y_w then
    meets y_l once and the pair is kept only if y_w wins. K = 8 takes 4 + 3 + 3 + 1 = 11 comparisons. The side
    with P >= 1/2 wins, a tie goes to the first. A prompt with K equal responses gives no pair.

    This selection is not i.i.d., so the loss is a heuristic on top of the theory (Zhang et al. 2024).
    """

    needs: ClassVar[Needs] = ORACLE

    def check(self, width: int) -> None:
        if width < 4 or width & (width - 1):
            raise ValueError(f"a tournament needs 4, 8, 16, ... responses per prompt, got {width}")

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        count = rows.responses.shape[1]
        self.check(count)

        def match(a: Columns, b: Columns) -> tuple[Columns, Columns]:
            wins = world.compare(rows, a, b) >= 0.5
            return np.where(wins, a, b), np.where(wins, b, a)

        entrants = [np.full(len(rows), column) for column in range(count)]
        matches = [match(a, b) for a, b in zip(entrants[::2], entrants[1::2], strict=True)]
        best = _bracket([won for won, _ in matches], lambda a, b: match(a, b)[0])
        worst = _bracket([lost for _, lost in matches], lambda a, b: match(a, b)[1])
        prob = world.compare(rows, best, worst)
        return distinct(rows.pair(best, worst, np.ones(len(rows))).take(prob >= 0.5))

    def describe(self) -> str:
        return "tournament: best against worst"


def _itself(wins: Floats) -> Floats:
    return wins


def logit(wins: Floats) -> Floats:
    """Log-odds log P/(1 - P) of a win, with P clipped to [10^-6, 1 - 10^-6] so that a certain win stays finite."""
    inside = np.clip(wins, 1e-6, 1 - 1e-6)
    return np.log(inside / (1 - inside))


@dataclass(frozen=True, kw_only=True)
class Scored(Pairing):
    """Win-rate rewards E P(y beats y'), y' by an opponent, for every response; no selection.

    against     the opponent; with `opponents` = 0 a prompt's responses are compared with each other (leave-one-out),
                which needs them all to be samples of the opponent. Exact games take the exact expectation.
    scores      "win rate", or "logit": the mean of log P/(1 - P).
    decode      temperature and truncation of the opponents, if the method fixes them.
    with_itself also compare each response with itself (P = 1/2), as in SPPO's released pipeline: with K responses
                this shrinks rates towards 1/2 by (K - 1)/K. Samples only.
    """

    against: Who = START
    opponents: int = 0
    scores: Literal["win rate", "logit"] = "win rate"
    with_itself: bool = False
    decode: Decode = AS_SET

    needs: ClassVar[Needs] = ORACLE

    def check(self, width: int) -> None:
        if not self.opponents:
            at_least(2, "a leave-one-out win rate", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        of = logit if self.scores == "logit" else _itself
        rates = world.win_rates(state, rows, self.against, self.opponents, of, self.decode)
        count = rows.responses.shape[1]
        if self.with_itself:
            rates = ((count - 1) * rates + of(np.array(0.5))) / count
        return replace(rows, reward=rates)

    def describe(self) -> str:
        return f"every response with its {self.scores}"


@dataclass(frozen=True, kw_only=True)
class ScoredByMixture(Pairing):
    """`Scored` against fresh responses of the geometric mixture pi_t^(1 - mixture) pi_ref^mixture (Nash-MD)."""

    mixture: float = 0.125
    opponents: int = 2
    parameters: ClassVar[tuple[str, ...]] = ("mixture",)
    needs: ClassVar[Needs] = ORACLE
    mixes: ClassVar[bool] = True

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        scored = Scored(against=Geometric(share=self.mixture), opponents=self.opponents)
        return scored.form(world, state, rows)

    def describe(self) -> str:
        return "every response with its win rate against a mixture of the policy and the reference"


@dataclass(frozen=True, kw_only=True)
class BestWorst(Pairing):
    """Best-against-worst pair by win rate among the K responses.

    scores   what ranks and pays them, "win rate" or "logit", as in `Scored`.
    keep     "label": a hard label; "match": the oracle's P(best beats worst) as a soft label and, with 1 - P, as
             rewards; "rates": the win rates among the K as rewards.

    Not i.i.d.: the identity behind constant targets does not hold for selected pairs.
    """

    keep: Literal["label", "match", "rates"] = "label"
    with_itself: bool = False
    scores: Literal["win rate", "logit"] = "win rate"

    needs: ClassVar[Needs] = ORACLE

    def check(self, width: int) -> None:
        at_least(2, "best against worst", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        scored = Scored(with_itself=self.with_itself, scores=self.scores).form(world, state, rows)
        best, worst = scored.rewards.argmax(axis=1), scored.rewards.argmin(axis=1)
        chosen = scored.columns([best, worst])
        if self.keep == "rates":
            return distinct(chosen)
        prob = np.ones(len(rows)) if self.keep == "label" else world.compare(rows, best, worst)
        return distinct(replace(chosen, prob=prob, reward=np.stack([prob, 1 - prob], axis=1)))

    def describe(self) -> str:
        return f"best against worst of all ({self.keep})"


@dataclass(frozen=True, kw_only=True)
class WithThird(Pairing):
    """Labelled pairs with a third response, for a term on its log-likelihood (XPO, VPO).

    `third` says which response is the third: "second", the pair's own second one (an exploration sample in a pair of
    its own), "first", its own first one (a recorded response that is imitated whoever wins), or "last", one that takes
    no part in the pairs. With "last" the first third of the written columns meets the second, column by column, and the
    last third follows; otherwise the first half meets the second half.
    """

    third: Literal["first", "second", "last"] = "second"

    needs: ClassVar[Needs] = ORACLE

    def check(self, width: int) -> None:
        shares = 3 if self.third == "last" else 2
        if width < shares or width % shares:
            raise ValueError(
                f"pairs with a third response need a multiple of {shares} responses per prompt, got {width}"
            )

    def comparisons(self, width: int) -> int:
        return width // (3 if self.third == "last" else 2)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        share = rows.responses.shape[1] // (3 if self.third == "last" else 2)
        parts = []
        for column in range(share):
            first, second = np.full(len(rows), column), np.full(len(rows), share + column)
            prob = world.compare(rows, first, second)
            third = {"first": first, "second": second}.get(self.third, np.full(len(rows), 2 * share + column))
            parts.append(replace(rows.columns([first, second, third]), prob=prob))
        return Rows.join(parts)

    def describe(self) -> str:
        return "pairs by the oracle, with a third response"


def distinct(pairs: Rows) -> Rows:
    """The pairs of two different responses."""
    return pairs.take(np.array([group[0] != group[1] for group in pairs.responses], dtype=bool))


def _bracket(field: list[Columns], play: Callable[[Columns, Columns], Columns]) -> Columns:
    """Single elimination; `play` returns the column that advances."""
    while len(field) > 1:
        field = [play(a, b) for a, b in zip(field[::2], field[1::2], strict=True)]
    return field[0]
