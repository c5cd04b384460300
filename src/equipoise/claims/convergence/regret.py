"""Regret (2403.16843): a learner that has little of it finds the equilibrium by playing itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from equipoise.claims.claim import (
    Array,
    Claim,
    Evidence,
    Line,
    Panel,
    Scale,
    Slope,
    Table,
    log_slope,
    verdict,
)
from equipoise.claims.draws import moved_seed, numpy_draws
from equipoise.games import PreferenceGame, TabularPolicy, gap0, zoo
from equipoise.games.repeated.regret import (
    ENTROPY,
    L2,
    Ftrl,
    Learner,
    Losses,
    alternating,
    external_regret,
    follow_the_leader,
    self_play,
)

HEDGE, PROJECTED, OPTIMISTIC, LEADER = "Hedge", "FTRL with L2", "optimistic Hedge", "follow the leader"
ALTERNATING, COINS = "alternating", "coin flips"
FROM_T = 32  # powers are fitted from here: before, the start decides
EXACT, NEAR = 1e-12, 0.1


@dataclass(frozen=True)
class Curve:
    """Reg_t [seeds, points] of one learner, and the gap of its mean play, not a number outside self-play."""

    against: str
    learner: str
    t: tuple[int, ...]
    regret: Array
    gap: Array

    def slope(self) -> Slope:
        late = [i for i, t in enumerate(self.t) if t >= FROM_T]
        return log_slope([self.t[i] for i in late], self.regret[:, late])

    def excess(self) -> Array:
        """gap0(mean of t plays) - 2 Reg_t/t."""
        return self.gap - 2 * self.regret / np.array(self.t)


def regret_self_play(scale: Scale) -> Evidence:
    rounds, starts, horizon, sequences = {"quick": (512, 8, 4096, 16), "full": (2048, 16, 32_768, 64)}[scale]
    with one_thread():
        played = [
            playing(name, game, learner, rounds)
            for name, game in games(starts).items()
            for learner in (HEDGE, PROJECTED, OPTIMISTIC)
        ]
        faced = [
            facing(name, losses, learner)
            for name, losses in given_losses(sequences, horizon).items()
            for learner in (HEDGE, PROJECTED, LEADER)
        ]
    return judge_self_play(played, faced)


def judge_self_play(played: Sequence[Curve], faced: Sequence[Curve]) -> Evidence:
    """played: curves in self-play; faced: curves against given losses."""
    excess = np.concatenate([curve.excess().ravel() for curve in played])
    powers = [curve.slope() for curve in played]
    roots = [curve.slope() for curve in faced if curve.learner == HEDGE]
    linear = [c.slope() for c in faced if (c.against, c.learner) == (ALTERNATING, LEADER)]
    steepest = max(powers, key=lambda slope: slope.value)
    return Evidence(
        verdict=verdict(
            bool((excess <= EXACT).all()) and all(below(slope, 1.0) for slope in powers),
            (
                bool((np.abs(excess) <= EXACT).all()),
                all(abs(slope.value - 0.5) <= NEAR for slope in roots),
                all(slope.value >= 1 - NEAR for slope in linear),
            ),
        ),
        summary=f"In self-play the gap of the mean play and 2 Reg_t/t differ by at most {np.abs(excess).max():.1g}; "
        f"the steepest regret grows as t to the power {steepest}. Against given losses Hedge's power is "
        f"{spoken(roots)}, follow the leader's against alternating losses {spoken(linear)}.",
        tables=(
            Table(
                "self-play, means over random starts",
                (
                    "game",
                    "learner",
                    "rounds",
                    "regret",
                    "gap of the mean play",
                    "power of t",
                    "standard error",
                ),
                tuple(
                    (c.against, c.learner, c.t[-1], last(c.regret), last(c.gap), s.value, s.error)
                    for c, s in zip(played, powers, strict=True)
                ),
            ),
            Table(
                "given losses, means over sequences",
                ("losses", "learner", "rounds", "regret", "power of t", "standard error"),
                tuple(
                    (c.against, c.learner, c.t[-1], last(c.regret), s.value, s.error)
                    for c, s in ((c, c.slope()) for c in faced)
                ),
            ),
        ),
        panels=panels((*played, *faced)),
    )


def games(starts: int) -> dict[str, PreferenceGame]:
    """Each game from random first plays; the last is another random game for every start."""
    rng = numpy_draws(0)

    def started(tables: torch.Tensor) -> PreferenceGame:
        actions = tables.shape[-1]
        return PreferenceGame(
            tables.expand(starts, actions, actions), rng.dirichlet(np.ones(actions), starts)
        )

    return {
        "rps": started(zoo.rps().preference),
        "brps": started(zoo.brps().preference),
        "random 5x5": started(
            torch.cat([zoo.random(5, moved_seed(seed)).preference for seed in range(starts)])
        ),
    }


def given_losses(sequences: int, rounds: int) -> dict[str, Losses]:
    """Losses between 0 and 1 that do not listen; the alternating ones with either action first."""
    coins = numpy_draws(1).integers(0, 2, (sequences, rounds, 2)).astype(float)
    one = alternating(rounds)
    return {ALTERNATING: torch.cat([one, one.flip(2)]), COINS: torch.from_numpy(coins)}


def learner_for(name: str, actions: int, start: torch.Tensor | None = None) -> Learner:
    """Steps that need no horizon: Hedge's gives Reg_t <= sqrt(t log A) from a uniform start."""
    hedge = Ftrl(regulariser=ENTROPY, eta=2 * math.sqrt(math.log(actions)), anytime=True, start=start)
    made: dict[str, Learner] = {
        HEDGE: hedge,
        PROJECTED: Ftrl(regulariser=L2, eta=1.0, anytime=True, start=start),
        OPTIMISTIC: Ftrl(regulariser=ENTROPY, eta=0.5, optimistic=True, start=start),
        LEADER: follow_the_leader,
    }
    return made[name]


def playing(name: str, game: PreferenceGame, learner: str, rounds: int) -> Curve:
    losses, plays = self_play(game, learner_for(learner, game.actions, game.reference), rounds)
    t = powers_of_two(rounds)
    mean = plays.cumsum(dim=1) / torch.arange(1, rounds + 1, dtype=plays.dtype).unsqueeze(1)
    gaps = [gap0(game, TabularPolicy.from_probs(mean[:, one - 1])).numpy() for one in t]
    return Curve(name, learner, t, at(external_regret(losses, plays), t), np.stack(gaps, axis=1))


def facing(name: str, losses: Losses, learner: str) -> Curve:
    t = powers_of_two(losses.shape[1])
    regret = at(external_regret(losses, learner_for(learner, losses.shape[2])(losses)), t)
    return Curve(name, learner, t, regret, np.full_like(regret, np.nan))


def powers_of_two(rounds: int) -> tuple[int, ...]:
    return tuple(2**k for k in range(2, int(math.log2(rounds)) + 1))


def at(curves: torch.Tensor, t: Sequence[int]) -> Array:
    return curves[:, [one - 1 for one in t]].numpy()


def below(slope: Slope, limit: float) -> bool:
    """Shown, not merely not refuted."""
    return slope.value + 2 * slope.error < limit


def last(values: Array) -> float:
    return float(values[:, -1].mean())


def spoken(slopes: Sequence[Slope]) -> str:
    return " and ".join(map(str, slopes))


def panels(curves: Sequence[Curve]) -> tuple[Panel, ...]:
    names = dict.fromkeys(curve.against for curve in curves)
    return tuple(panel(name, [c for c in curves if c.against == name], lambda c: c.learner) for name in names)


def panel(title: str, curves: Sequence[Curve], label: Callable[[Curve], str], xlabel: str = "round") -> Panel:
    """Mean regrets on log axes, with a root for the eye."""
    lines = [
        Line(label(c), tuple(map(float, c.t)), tuple(np.maximum(c.regret.mean(axis=0), 1e-3).tolist()))
        for c in curves
    ]
    t = curves[0].t
    root = Line("slope 1/2", tuple(map(float, t)), tuple((one / t[0]) ** 0.5 for one in t), guide=True)
    return Panel(title, xlabel, "regret", (*lines, root))


@contextmanager
def one_thread() -> Iterator[None]:
    """The arrays are small: on a busy machine a second thread makes every operation wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


SELF_PLAY = Claim(
    name="regret_self_play",
    sentence="In self-play the regret bounds the gap of the mean play, gap0(mean) <= 2 Reg_T/T; Hedge's regret grows "
    "as a root of T against any losses, follow the leader's as T against alternating ones.",
    paper="2403.16843",
    rule="Heart: in self-play of Hedge, FTRL with L2 and optimistic Hedge on rps, brps and random games, at every "
    "round shown, the gap of the mean play exceeds 2 Reg_t/t by at most 1e-12, and the fitted power of t of the regret "
    f"from round {FROM_T} on plus two standard errors is below 1. Also: the two are equal to 1e-12 (derived here: the "
    "loss of a play against itself is 0); Hedge's power is 1/2 to within 0.1 against coin flips and alternating "
    "losses; that of follow the leader against alternating losses is at least 0.9.",
    program=regret_self_play,
)
