"""Last iterates with the steps of their papers: INPO (2407.00617) and Nash-MD (2312.00886).

Both promise a KL from the regularised Nash policy of order 1/T under a schedule of steps. The bounds themselves,
32/(tau^2 (T + 1)) and 8/(tau^2 (T + 1)) nats, lie above the KL that a game begins with for thousands of rounds, so
that a policy which never moves keeps them: what is judged is the rate, and the inequality of one round that it is
summed from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, log_slope, verdict
from equipoise.claims.convergence.cycles import cycles, follow, spaced
from equipoise.claims.convergence.sampled_rounds import random_games
from equipoise.claims.small_models import line
from equipoise.games import PreferenceGame, TabularPolicy, kl_to, regularised_nash

TAU, SIZE = 0.1, 5
LIMIT = -0.9  # power of t: -1 with a tenth for its logarithms
LEFT = 0.01  # share of the start's KL that may be left
ROUNDING = 1e-13
CYCLES, RANDOM = "cycles", "random games"
PLANS: Mapping[Scale, tuple[int, int]] = {"quick": (16, 400), "full": (64, 4000)}  # games, rounds


@dataclass(frozen=True)
class Setting:
    """A method, its paper's steps, constant steps to stand beside them, and the inequality of one round.

    steps    t -> eta_t of round t = 1, 2, ....
    excess   (game, policies, KLs [games, T + 1]) -> largest left side less right side of the inequality.
    """

    method: str
    text: str
    steps: Callable[[int], float]
    constant: tuple[float, ...]
    excess: Callable[[PreferenceGame, list[TabularPolicy], Array], float]


def nash_md_excess(game: PreferenceGame, path: list[TabularPolicy], kls: Array) -> float:
    """KL_{t+1} <= (1 - eta_t tau) KL_t + 2 eta_t^2, the paper's."""
    eta = np.array([NASH_MD.steps(t) for t in range(1, kls.shape[1])])
    return float((kls[:, 1:] - (1 - eta * TAU) * kls[:, :-1] - 2 * eta**2).max())


def inpo_excess(game: PreferenceGame, path: list[TabularPolicy], kls: Array) -> float:
    """KL_{t+1} <= (1 - tau/eta_t) KL_t + G_t^2/(8 eta_t^2), G_t the range over y of P(y > pi_t) - tau log(pi_t/ref).

    DERIVED: mirror descent with Hoeffding's lemma for the log-partition, and the regularised game's equilibrium.
    """
    eta = np.array([INPO.steps(t) for t in range(1, kls.shape[1])])
    pull = [game.win(p) - TAU * (p.log_probs() - game.reference.log()) for p in path[:-1]]
    spread = torch.stack([u.amax(dim=1) - u.amin(dim=1) for u in pull], dim=1).numpy()
    return float((kls[:, 1:] - (1 - TAU / eta) * kls[:, :-1] - spread**2 / (8 * eta**2)).max())


NASH_MD = Setting("nash_md", "2/(tau (t + 2))", lambda t: 2 / (TAU * (t + 2)), (0.5,), nash_md_excess)
INPO = Setting("inpo", "tau (t + 2)/2", lambda t: TAU * (t + 2) / 2, (0.2, 0.5, 1.0), inpo_excess)


@dataclass(frozen=True, eq=False)
class Runs:
    """kls: (kind of games, step) -> KL(pi*_tau || pi_t) [games, rounds + 1]; excess of the inequality over all."""

    kls: Mapping[tuple[str, str], Array]
    excess: float


def run(setting: Setting, scale: Scale) -> Runs:
    count, rounds = PLANS[scale]
    kls: dict[tuple[str, str], Array] = {}
    excess = []
    for kind, game in ((CYCLES, cycles()), (RANDOM, random_games(count, SIZE))):
        path = played(game, setting.method, [setting.steps(t) for t in range(1, rounds + 1)])
        kls[kind, setting.text] = distances(game, path)
        excess.append(setting.excess(game, path, kls[kind, setting.text]))
        for eta in setting.constant:
            kls[kind, f"{eta:g}"] = distances(game, played(game, setting.method, [eta] * rounds))
    return Runs(kls, max(excess))


def played(game: PreferenceGame, method: str, steps: list[float]) -> list[TabularPolicy]:
    """The policies before each round and after the last, by the method's closed form."""
    rounds = len(steps)
    seen, _ = follow(game, method, {"eta": steps, "tau": TAU}, rounds, range(1, rounds + 1))
    return [game.initial(), *(seen[t] for t in range(1, rounds + 1))]


def distances(game: PreferenceGame, path: list[TabularPolicy]) -> Array:
    """[games, rounds + 1] KL(pi*_tau || pi_t); rounding may leave -1e-17."""
    target = regularised_nash(game, TAU)
    return torch.stack([kl_to(policy, target).clamp(min=0) for policy in path], dim=1).numpy()


def judge(setting: Setting, runs: Runs) -> Evidence:
    found, schedule = runs.kls, setting.text
    rounds = next(iter(found.values())).shape[1] - 1
    at = [t for t in spaced(rounds, 24) if t >= rounds**0.5]
    slopes = {kind: log_slope(at, found[kind, schedule][:, at] + 1e-300) for kind in (CYCLES, RANDOM)}
    share = {
        kind: found[kind, schedule][:, -1].mean() / found[kind, schedule][:, 0].mean() for kind in slopes
    }
    fast = all(slope.value + 2 * slope.error <= LIMIT for slope in slopes.values())
    arrived = all(part <= LEFT for part in share.values())
    told = ", ".join(f"{slopes[kind]} ({kind})" for kind in slopes)
    left = ", ".join(f"{found[kind, schedule][:, -1].mean():.2g} ({kind})" for kind in slopes)
    constant = "; ".join(
        f"{eta:g}: " + ", ".join(f"{found[kind, f'{eta:g}'][:, -1].mean():.2g} ({kind})" for kind in slopes)
        for eta in setting.constant
    )
    kept = runs.excess <= ROUNDING
    broken = "never broken" if kept else f"broken by {runs.excess:.2g}"
    shown = sorted({1, *at})
    return Evidence(
        verdict=verdict(fast and arrived, (kept,)),
        summary="With the paper's steps the mean KL from the regularised Nash policy falls as a power of t of "
        f"{told}, to {left} nats after {rounds} rounds; the inequality of a round is {broken}. KL left by "
        f"constant steps: {constant}.",
        tables=(
            Table(
                f"mean KL(pi*_tau || pi_t) in nats, tau = {TAU:g}",
                (
                    "games",
                    "eta_t",
                    "start",
                    f"round {rounds // 20}",
                    f"round {rounds // 2}",
                    f"round {rounds}",
                ),
                tuple(
                    (kind, step, *(float(kls[:, t].mean()) for t in (0, rounds // 20, rounds // 2, rounds)))
                    for (kind, step), kls in found.items()
                ),
            ),
        ),
        panels=tuple(
            Panel(
                kind,
                "round",
                "KL to the regularised Nash, nats",
                tuple(
                    line(step, shown, kls[:, shown], log=True)
                    for (k, step), kls in found.items()
                    if k == kind
                ),
                bottom=1e-16,
            )
            for kind in (CYCLES, RANDOM)
        ),
    )


RULE = (
    f"On both cycles and on random games of {SIZE} responses, tau = {TAU:g}, with the method's closed form. "
    "Heart: the power of t in the mean KL from the regularised Nash policy, from round sqrt(T) on, plus two "
    f"standard errors over games, is at most {LIMIT:g}, and at most {LEFT:.0%} of the start's KL is left. "
    "Also: in every game and round "
)

NASH_MD_LAST_ITERATE = Claim(
    name="nash_md_last_iterate",
    sentence="With steps eta_t = 2/(tau (t + 2)) Nash-MD's last iterate converges to the regularised Nash "
    "policy at rate O(1/T).",
    paper="2312.00886",
    rule=RULE
    + "KL_t+1 <= (1 - eta_t tau) KL_t + 2 eta_t^2, which the rate is summed from. A constant step, whose limit "
    "is biased, is shown and does not count.",
    program=lambda scale: judge(NASH_MD, run(NASH_MD, scale)),
)

INPO_LAST_ITERATE = Claim(
    name="inpo_last_iterate",
    sentence="With inverse steps eta_t = tau (t + 2)/2 INPO's last iterate converges to the regularised Nash "
    "policy at rate O(1/T).",
    paper="2407.00617",
    rule=RULE + "KL_t+1 <= (1 - tau/eta_t) KL_t + G_t^2/(8 eta_t^2), with the range G_t of P(y > pi_t) - tau "
    "log(pi_t/ref) as measured. Constant inverse steps, of which small ones cycle, are shown and do not count.",
    program=lambda scale: judge(INPO, run(INPO, scale)),
    set="the first rule asked for the bound alone, which a policy that never moves keeps; this one was set "
    "with the figures of that program known (powers of about -2 on two cycles), and before any run on random "
    "games.",
)
