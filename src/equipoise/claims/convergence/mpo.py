"""MPO (2410.16714): a magnet that moves leads to the Nash policy of the plain game, one that stays does not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from equipoise.claims.claim import Claim, Evidence, Line, Panel, Scale, Table, verdict
from equipoise.claims.convergence.cycles import NAMES, NEVER, cycles, follow, shown, spaced
from equipoise.games import gap0, kl_to, regularised_nash
from equipoise.games.closed_form import mmd_step

ALPHA = 0.1
SOLVED = 1e-4  # plain gap
STALLED = 1e-8  # distance of the gap from that of the regularised Nash policy


@dataclass(frozen=True)
class Run:
    """MPO on one game with magnet strength alpha and step eta, the magnet moved every `every` rounds."""

    alpha: float
    eta: float
    every: int
    game: str
    rounds: tuple[int, ...]
    gap: tuple[float, ...]

    @property
    def label(self) -> str:
        return f"alpha {self.alpha:g} {'never' if self.every == NEVER else f'every {self.every}'}"


SETTINGS = ((ALPHA, 1.0, 50), (ALPHA, 1.0, NEVER), (0.5, 0.5, 200), (0.0, 1.0, NEVER))


def run(scale: Scale) -> Evidence:
    rounds = {"quick": 1000, "full": 5000}[scale]
    runs = [r for alpha, eta, every in SETTINGS for r in play(alpha, eta, every, rounds)]
    limits = gap0(cycles(), regularised_nash(cycles(), ALPHA)).tolist()
    return judge(runs, dict(zip(NAMES, limits, strict=True)), contraction(600))


def play(alpha: float, eta: float, every: int, rounds: int) -> list[Run]:
    game, at = cycles(), spaced(rounds)
    seen, _ = follow(game, "mpo", {"alpha": alpha, "eta": eta, "every": every}, rounds, at)
    gaps = torch.stack([gap0(game, seen[t]) for t in at])
    return [
        Run(alpha, eta, every, name, tuple(at), tuple(gaps[:, x].tolist())) for x, name in enumerate(NAMES)
    ]


def contraction(rounds: int) -> list[tuple[str, float, float]]:
    """(game, worst KL ratio of one step, bound 1/(1 + eta alpha)), the magnet fixed and eta = alpha/max P^2."""
    found = []
    for x, name in enumerate(NAMES):
        game = cycles()
        eta = ALPHA / float(game.preference[x].max()) ** 2
        star, magnet, policy = regularised_nash(game, ALPHA), game.initial(), game.initial()
        left, worst = float(kl_to(policy, star)[x]), 0.0
        for _ in range(rounds):
            policy = mmd_step(game, policy, magnet, eta=eta, alpha=ALPHA)
            reached = float(kl_to(policy, star)[x])
            if left > 1e-10:  # below is rounding
                worst = max(worst, reached / left)
            left = reached
        found.append((name, worst, 1 / (1 + eta * ALPHA)))
    return found


def judge(runs: list[Run], limits: dict[str, float], steps: list[tuple[str, float, float]]) -> Evidence:
    moving, fixed, strong, _ = (
        [r for r in runs if (r.alpha, r.eta, r.every) == setting] for setting in SETTINGS
    )
    solved = all(r.gap[-1] < SOLVED for r in moving)
    stalled = all(abs(r.gap[-1] - limits[r.game]) < STALLED for r in fixed)
    contracts = all(worst <= bound for _, worst, bound in steps)
    slower = all(s.gap[-1] > m.gap[-1] for s, m in zip(strong, moving, strict=True))

    def told(group: list[Run]) -> str:
        return ", ".join(f"{r.gap[-1]:.2g} ({r.game})" for r in group)

    return Evidence(
        verdict=verdict(solved, (stalled, contracts)),
        summary=f"After {runs[0].rounds[-1]} rounds the plain gap is {told(moving)} with a magnet moved every "
        f"{SETTINGS[0][2]} rounds, and {told(fixed)} with one that stays, "
        f"{'the gap' if stalled else 'not the gap'} of the regularised Nash policy. A magnet five times as strong "
        f"{'is slower' if slower else 'is not slower'}: {told(strong)}.",
        tables=(
            Table(
                "plain gap of the last iterate",
                ("game", "alpha", "eta", "magnet moves", "half-time", f"round {runs[0].rounds[-1]}"),
                tuple(
                    (
                        r.game,
                        r.alpha,
                        r.eta,
                        "never" if r.every == NEVER else f"every {r.every}",
                        r.gap[r.rounds.index(r.rounds[-1] // 2)],
                        r.gap[-1],
                    )
                    for r in runs
                ),
            ),
            Table(
                f"largest KL(pi*_alpha, pi_t+1)/KL(pi*_alpha, pi_t), fixed magnet, alpha = {ALPHA:g}",
                ("game", "worst step", "bound 1/(1 + eta alpha)"),
                tuple(steps),
            ),
        ),
        panels=tuple(
            Panel(
                name,
                "round",
                "plain gap",
                tuple(
                    Line(r.label, tuple(map(float, r.rounds)), shown(r.gap))
                    for r in runs
                    if r.game == name and r.alpha
                ),
            )
            for name in NAMES
        ),
    )


PLAIN_NASH = Claim(
    name="mpo_plain_nash",
    sentence="With a magnet that moves to the current policy every so often MPO's last iterate converges to the Nash "
    "policy of the original game; with a fixed magnet it converges to the regularised one.",
    paper="2410.16714",
    rule=f"Heart: with alpha = {ALPHA:g}, eta = 1 and the magnet moved every {SETTINGS[0][2]} rounds the plain gap "
    f"ends below {SOLVED:g} on rps and brps. Also: with a fixed magnet the gap ends within {STALLED:g} of that of the "
    "regularised Nash policy, and for eta = alpha/max P^2 every step contracts by 1/(1 + eta alpha) or more. The "
    "stronger magnet, and multiplicative weights (alpha = 0), are shown and do not count.",
    program=run,
)
