"""EGPO (2503.08942): extragradient against the baselines of its paper, on random games."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.claims.claim import Array, Claim, Evidence, Line, Panel, Scale, Table, interval, verdict
from equipoise.claims.convergence.cycles import shown, spaced
from equipoise.claims.convergence.egpo_runs import EGPO, METHODS, NASH_MD, OMD, Setting, play

SETTINGS = (
    Setting("table, exact, beta 0.1", beta=0.1, rounds=1000, lr=0.1),
    Setting("table, exact, beta 0.01", beta=0.01, rounds=5000, lr=0.02),
    Setting("table, exact, beta 0.001", beta=0.001, rounds=100_000, lr=0.0002),
    Setting("table, 100 samples, beta 0.01", beta=0.01, rounds=100_000, lr=0.0002, samples=100),
    Setting("network, exact, beta 0.01", beta=0.01, rounds=10_000, lr=0.003, neural=True),
    Setting("network, 100 samples, beta 0.1", beta=0.1, rounds=20_000, lr=0.001, samples=100, neural=True),
)
QUICK = 2
JUDGED = SETTINGS[:QUICK]
SOLVED, FAILED = 1e-12, 1e-3  # regularised gap
LEVEL = 1e-10  # gaps below are all solved
DRAWN = (1, 3, 5)


@dataclass(frozen=True)
class Run:
    """[points, games] regularised gaps of one method after the listed rounds."""

    setting: Setting
    method: str
    rounds: tuple[int, ...]
    gaps: Array

    def mean(self, at: int = -1) -> float:
        return float(self.gaps[at].mean())

    @property
    def half(self) -> float:
        """Mean gap after half the rounds: as many gradients for EGPO as the others take in all."""
        return self.mean(self.rounds.index(self.rounds[-1] // 2))


def run(scale: Scale) -> Evidence:
    settings = SETTINGS[:QUICK] if scale == "quick" else SETTINGS
    return judge([curve(setting, method) for setting in settings for method in METHODS])


def curve(setting: Setting, method: str) -> Run:
    at = spaced(setting.rounds, 60)
    found = play(setting, method, at)
    return Run(setting, method, tuple(at), np.stack([found[t].clamp(min=0).numpy() for t in at]))


def judge(runs: list[Run]) -> Evidence:
    settings = list(dict.fromkeys(r.setting for r in runs))
    of = {(r.setting, r.method): r for r in runs}
    solved = all(of[s, EGPO].gaps[-1].max() < SOLVED for s in JUDGED)
    failing = int((of[JUDGED[1], OMD].gaps[-1] > FAILED).sum())
    floors = of[JUDGED[0], NASH_MD].gaps[-1].min() > SOLVED
    best = {s: min(METHODS, key=lambda m: max(of[s, m].mean(), LEVEL)) == EGPO for s in settings}
    level = {
        s: [m for m in METHODS if m != EGPO and of[s, m].mean() <= max(of[s, EGPO].half, LEVEL)]
        for s in settings
    }
    beaten = "; ".join(s.name for s, won in best.items() if not won)
    matched = "; ".join(f"{s.name}: {', '.join(methods)}" for s, methods in level.items() if methods)
    summary = (
        f"EGPO {'solves' if solved else 'does not solve'} every game at beta 0.1 and 0.01 to {SOLVED:g}; at beta 0.01 "
        f"OMD leaves more than {FAILED:g} in {failing} of {of[JUDGED[1], OMD].gaps.shape[1]}. EGPO has the smallest "
        f"mean gap, or one of {LEVEL:g}, in {sum(best.values())} of {len(settings)} settings"
        f"{f', not in: {beaten}' if beaten else ''}. With as many gradients (half its rounds) it is matched in "
        f"{matched or 'none'}.{''.join(f' {lead(s, of[s, OMD], of[s, EGPO])}' for s in settings if s.samples)}"
    )
    return Evidence(
        verdict=verdict(solved, (failing > 0, bool(floors), all(best.values()))),
        summary=summary,
        tables=tuple(table(s, [of[s, m] for m in METHODS]) for s in settings),
        panels=tuple(
            panel(s, [of[s, m] for m in METHODS])
            for s in ([SETTINGS[i] for i in DRAWN] if settings == list(SETTINGS) else settings)
        ),
    )


def lead(setting: Setting, other: Run, egpo: Run) -> str:
    """How far the samples let two methods be told apart, paired over games."""
    mean, low, high = (float(part[0]) for part in interval((other.gaps[-1] - egpo.gaps[-1])[:, None]))
    return f"In {setting.name}, {other.method}'s gap less EGPO's is {mean:.2g} [{low:.2g}, {high:.2g}]."


def table(setting: Setting, runs: list[Run]) -> Table:
    count = runs[0].gaps.shape[1]
    return Table(
        f"{setting.name}: {setting.rounds} rounds, rate {setting.lr:g}, regularised gap over {count} games of "
        f"{setting.actions} responses",
        ("method", "mean", "median", "largest", f"above {FAILED:g}", "mean at half-time"),
        tuple(
            (
                r.method,
                r.mean(),
                float(np.median(r.gaps[-1])),
                float(r.gaps[-1].max()),
                int((r.gaps[-1] > FAILED).sum()),
                r.half,
            )
            for r in runs
        ),
    )


def panel(setting: Setting, runs: list[Run]) -> Panel:
    lines = tuple(
        Line(r.method, tuple(map(float, r.rounds)), shown(r.gaps.mean(axis=1).tolist())) for r in runs
    )
    return Panel(
        setting.name, "round", "mean regularised gap", lines, bottom=None if setting.samples else 1e-16
    )


BASELINES = Claim(
    name="egpo_against_baselines",
    sentence="EGPO's last iterate converges linearly to the regularised Nash policy and beats online mirror descent, "
    "online IPO, Nash-MD and Nash-MD-PG, in tables and networks, with exact gradients and with samples.",
    paper="2503.08942",
    rule=f"Heart: exact and tabular, EGPO's gap is below {SOLVED:g} on each of ten random games at beta 0.1 and 0.01, "
    "with the rounds and rates of the authors' simulations. Also: at beta 0.01 OMD leaves more than "
    f"{FAILED:g} on a game, at beta 0.1 Nash-MD stops above {SOLVED:g} on all, and in every setting run EGPO has the "
    f"smallest mean gap (gaps below {LEVEL:g} count as equal). EGPO takes two gradients a round; the comparison at "
    "equal gradients, and how much of a lead is noise, are shown and do not count.",
    program=run,
)
