"""ONPO (2502.16852): the last iterate of optimistic mirror descent goes to the Nash policy of the plain game."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from equipoise.claims.claim import Claim, Evidence, Line, Panel, Scale, Table, verdict
from equipoise.claims.convergence.cycles import NAMES, cycles, shown, spaced
from equipoise.core.dims import PerPrompt
from equipoise.games import PreferenceGame, TabularPolicy, gap0, kl_to, nash
from equipoise.games.closed_form import mirror_step

STEPS = (0.125, 0.5, 1.0)  # the theorem speaks of the first
ONPO, MWU = "ONPO", "MWU"
FLOOR = 1e-12  # nats; below it KL is rounding
STEADY = 0.2  # relative difference of two decay rates that count as one
BOUNDED = 1.1  # growth of round x average gap over the second half


@dataclass(frozen=True)
class Run:
    """One learner on one game; kl from the Nash policy, gap of the last, gap of the average, at `rounds`."""

    learner: str
    game: str
    step: float
    rounds: tuple[int, ...]
    kl: tuple[float, ...]
    gap: tuple[float, ...]
    average_gap: tuple[float, ...]

    @property
    def label(self) -> str:
        return f"{self.learner} {self.step:g}"

    @property
    def rates(self) -> tuple[float, float]:
        """Decay of log KL per round over the third and the fourth quarter of the rounds above FLOOR."""
        points = [(t, k) for t, k in zip(self.rounds, self.kl, strict=True) if k > FLOOR]
        last = points[-1][0]
        marks = [min(points, key=lambda point: abs(point[0] - share * last)) for share in (0.5, 0.75, 1)]
        if len({t for t, _ in marks}) < 3:
            return 0.0, 0.0
        (t0, k0), (t1, k1), (t2, k2) = marks
        return math.log(k0 / k1) / (t1 - t0), math.log(k1 / k2) / (t2 - t1)

    @property
    def geometric(self) -> bool:
        early, late = self.rates
        return early > 0 and late > 0 and abs(early / late - 1) < STEADY

    def spent(self, share: float) -> float:
        """Round x gap of the average, at the listed round nearest to that share of all."""
        at = min(range(len(self.rounds)), key=lambda i: abs(self.rounds[i] - share * self.rounds[-1]))
        return self.rounds[at] * self.average_gap[at]


def run(scale: Scale) -> Evidence:
    return judge(play({"quick": 20_000, "full": 80_000}[scale]))


def play(rounds: int) -> list[Run]:
    """Both learners, both games and every step at once: each is a prompt."""
    base = cycles()
    learners = [(learner, step, x) for learner in (ONPO, MWU) for step in STEPS for x in range(base.prompts)]
    games = torch.tensor([x for _, _, x in learners])
    game = PreferenceGame(base.preference[games], base.reference[games])
    step = torch.tensor([[step] for _, step, _ in learners], dtype=torch.float64)
    optimistic = torch.tensor([[learner == ONPO] for learner, _, _ in learners])
    star = nash(game)
    lazy = policy = game.initial()
    total, at, found = policy.probs(), {*spaced(rounds), *range(0, rounds, rounds // 200)} - {0}, []
    for t in range(1, rounds + 1):
        payoff = step * game.win(policy)
        lazy = mirror_step(lazy, payoff, step=1.0)
        policy = mirror_step(lazy, payoff * optimistic, step=1.0)
        total = total + policy.probs()
        if t in at:
            average = TabularPolicy(total.log())
            found.append((t, kl_to(policy, star).clamp(min=0), gap0(game, policy), gap0(game, average)))
    columns = list(zip(*found, strict=True))

    def curve(values: tuple[PerPrompt, ...], x: int) -> tuple[float, ...]:
        return tuple(float(value[x]) for value in values)

    return [
        Run(learner, NAMES[g], size, columns[0], *(curve(values, x) for values in columns[1:]))
        for x, (learner, size, g) in enumerate(learners)
    ]


def judge(runs: list[Run]) -> Evidence:
    optimistic = [r for r in runs if r.learner == ONPO]
    slow = [r for r in optimistic if r.step == min(STEPS)]
    bounded = all(r.spent(1) <= BOUNDED * r.spent(0.5) for r in optimistic)
    apart = all(r.kl[-1] > r.kl[0] for r in runs if r.learner == MWU)
    paces = "; ".join(f"{r.game} {r.rates[0]:.2g} and {r.rates[1]:.2g}" for r in slow)
    largest = max(r.spent(1) for r in optimistic)
    return Evidence(
        verdict=verdict(all(r.geometric for r in slow), (bounded, apart)),
        summary=f"With step {min(STEPS):g} log KL(pi* || pi_t) falls per round, over two stretches, by: {paces}. "
        f"Round x gap of the average ends at {largest:.3g} at most and is {'' if bounded else 'not '}bounded; the "
        f"last iterate of multiplicative weights {'moves away' if apart else 'does not always move away'}.",
        tables=(
            Table(
                f"after {runs[0].rounds[-1]} rounds from the reference",
                ("learner", "step", "game", "KL to Nash", "gap", "round x gap of average", "at half-time"),
                tuple(
                    (r.learner, r.step, r.game, r.kl[-1], r.gap[-1], r.spent(1), r.spent(0.5)) for r in runs
                ),
            ),
        ),
        panels=(*(distance(name, runs) for name in NAMES), regret(runs)),
    )


def distance(game: str, runs: list[Run]) -> Panel:
    drawn = [r for r in runs if r.game == game and (r.learner == ONPO or r.step == min(STEPS))]
    lines = [Line(r.label, tuple(map(float, r.rounds)), shown(r.kl)) for r in drawn]
    return Panel(game, "round", "KL(pi* || pi_t), nats", tuple(lines), bottom=1e-16)


def regret(runs: list[Run]) -> Panel:
    lines = [
        Line(
            r.label,
            tuple(map(float, r.rounds)),
            tuple(t * g for t, g in zip(r.rounds, r.average_gap, strict=True)),
        )
        for r in runs
        if r.game == "rps" and (r.learner == ONPO or r.step == min(STEPS))
    ]
    return Panel("rps: the average", "round", "round x gap of the average", tuple(lines))


LAST_ITERATE = Claim(
    name="onpo_last_iterate",
    sentence="Without any regulariser ONPO's last iterate converges linearly to the Nash policy for steps up to 1/8, "
    "and its average has a duality gap of O(1/T).",
    paper="2502.16852",
    rule=f"Heart: with step 1/8 on rps and brps log KL(pi* || pi_t) falls, and as fast in the third as in the fourth "
    f"quarter of the rounds whose KL is above {FLOOR:g} (within {STEADY:.0%}). Also: round x gap of the average "
    f"grows by no more than {BOUNDED - 1:.0%} in the second half for every step, and multiplicative weights, the same "
    "without optimism, end farther from the Nash policy than after one round.",
    program=run,
)
