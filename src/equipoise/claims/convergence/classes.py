"""Where the last iterate of each method goes on two cycles: four classes, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.claims.claim import Cell, Claim, Evidence, Line, Panel, Scale, Table, verdict
from equipoise.claims.convergence.cycles import NAMES, cycles, follow, shown, spaced
from equipoise.games import TabularPolicy, gap0, kl_to, nash, regularised_nash

TAU = 0.1
REGULARISED, PLAIN, AVERAGE, BIASED = "regularised Nash", "plain Nash", "on average only", "biased limit"
NEITHER = "no limit"
EXACT = 1e-9  # nats of KL to the regularised Nash policy
SOLVED = 1e-4  # plain gap
STILL = 1e-7  # largest change of a probability over the last half


@dataclass(frozen=True)
class Entry:
    """A method with its parameters and the class that theory puts it in; None: shown, not judged."""

    method: str
    parameters: Mapping[str, float]
    expected: str | None

    @property
    def label(self) -> str:
        given = ", ".join(f"{name} {value:g}" for name, value in self.parameters.items() if name not in KL)
        return f"{self.method}, {given}"


KL = ("tau", "beta", "every")
ENTRIES = (
    Entry("inpo", {"eta": 1.0, "tau": TAU}, REGULARISED),
    Entry("egpo", {"eta": 0.5, "beta": TAU}, REGULARISED),
    Entry("omd", {"eta": 1.0, "beta": TAU}, REGULARISED),
    Entry("online_ipo", {"rate": 0.02, "tau": TAU}, REGULARISED),
    Entry("nash_ema_pg", {"rate": 0.5, "decay": 0.5, "tau": TAU}, REGULARISED),
    Entry("nash_md", {"eta": 0.5, "tau": TAU}, BIASED),
    Entry("nash_md_pg", {"rate": 2.0, "mixture": 0.25, "tau": TAU}, BIASED),
    Entry("ipo_md", {"rate": 0.02, "mixture": 0.25, "tau": TAU}, BIASED),
    Entry("onpo", {"eta": 1.0}, PLAIN),
    Entry("mpo", {"eta": 1.0, "alpha": 0.1, "every": 50}, PLAIN),
    Entry("sppo", {"eta": 0.5}, AVERAGE),
    Entry("spo", {"rate": 0.1}, AVERAGE),
    Entry("dno", {"eta": 1.0}, AVERAGE),
    Entry("inpo", {"eta": 0.2, "tau": TAU}, None),
    Entry("omd", {"eta": 5.0, "beta": TAU}, None),
    Entry("nash_ema_pg", {"rate": 0.5, "decay": 0.9, "tau": TAU}, None),
)
DRAWN = {
    "to the regularised Nash policy": ("inpo", "egpo", "nash_md"),
    "to the plain Nash policy": ("onpo", "mpo", "sppo", "inpo"),
}


@dataclass(frozen=True)
class Found:
    """One run on one game. kl, kl0, gap: KL from the regularised and the plain Nash policy, plain gap; at `rounds`."""

    entry: Entry
    game: str
    rounds: tuple[int, ...]
    kl: tuple[float, ...]
    kl0: tuple[float, ...]
    gap: tuple[float, ...]
    average_gap: float
    moved: float  # largest change of a probability from half-time to the end

    @property
    def kind(self) -> str:
        if self.kl[-1] < EXACT:
            return REGULARISED
        if self.gap[-1] < SOLVED:
            return PLAIN
        if self.moved < STILL:
            return BIASED
        spirals = self.kl0[-1] > self.kl0[self.rounds.index(self.rounds[-1] // 2)]
        return AVERAGE if spirals and self.average_gap < self.gap[-1] / 5 else NEITHER


def run(scale: Scale) -> Evidence:
    rounds = {"quick": 1000, "full": 10_000}[scale]
    return judge([found for entry in ENTRIES for found in measure(entry, rounds)])


def measure(entry: Entry, rounds: int) -> list[Found]:
    game, at = cycles(), spaced(rounds)
    seen, average = follow(game, entry.method, entry.parameters, rounds, at)
    target, plain = regularised_nash(game, TAU), nash(game)
    distances: tuple[Callable[[TabularPolicy], Tensor], ...] = (
        lambda p: kl_to(p, target),
        lambda p: kl_to(p, plain),
        lambda p: gap0(game, p),
    )
    kl, kl0, gap = (
        torch.stack([of(seen[t]).clamp(min=0) for t in at])  # rounding may leave -1e-17
        for of in distances
    )
    moved = (seen[rounds].probs() - seen[rounds // 2].probs()).abs().amax(dim=1)
    left = gap0(game, average)
    return [
        Found(
            entry=entry,
            game=name,
            rounds=tuple(at),
            kl=tuple(kl[:, x].tolist()),
            kl0=tuple(kl0[:, x].tolist()),
            gap=tuple(gap[:, x].tolist()),
            average_gap=float(left[x]),
            moved=float(moved[x]),
        )
        for x, name in enumerate(NAMES)
    ]


def judge(runs: list[Found]) -> Evidence:
    judged = [run for run in runs if run.entry.expected is not None]
    wrong = [run for run in judged if run.kind != run.entry.expected]
    kinds = ", ".join(
        f"{kind}: {', '.join(dict.fromkeys(r.entry.method for r in judged if r.kind == kind))}"
        for kind in (REGULARISED, PLAIN, AVERAGE, BIASED)
        if any(r.kind == kind for r in judged)
    )
    exceptions = "; ".join(f"{run.entry.label} on {run.game}: {run.kind}" for run in wrong)
    outside = "; ".join(
        f"{run.entry.label} on {run.game}"
        for run in runs
        if run.entry.expected is None and run.kind == NEITHER
    )
    summary = f"After {runs[0].rounds[-1]} rounds: {kinds}. Not as theory says: {exceptions or 'none'}."
    if outside:
        summary += f" Steps too long, or opponents too late, keep cycling: {outside}."
    rows: list[tuple[Cell, ...]] = [
        (r.entry.label, r.game, r.kl[-1], r.gap[-1], r.average_gap, r.kind, r.entry.expected or "not judged")
        for r in runs
    ]
    columns = ("method", "game", "KL to regularised Nash", "plain gap", "gap of average", "found", "theory")
    return Evidence(
        verdict=verdict(not wrong),
        summary=summary,
        tables=(Table(f"last iterates from the reference, tau = {TAU:g}", columns, tuple(rows)),),
        panels=panels([run for run in judged if run.game == "rps"]),
    )


def panels(runs: list[Found]) -> tuple[Panel, ...]:
    measures: tuple[tuple[str, str, Callable[[Found], tuple[float, ...]]], ...] = (
        ("to the regularised Nash policy", "KL(pi*_tau || pi_t), nats", lambda r: r.kl),
        ("to the plain Nash policy", "plain gap of pi_t", lambda r: r.gap),
    )
    return tuple(
        Panel(
            f"rps: {title}",
            "round",
            axis,
            tuple(
                Line(run.entry.method, tuple(map(float, run.rounds)), shown(values(run)))
                for run in runs
                if run.entry.method in DRAWN[title]
            ),
            bottom=1e-16,
        )
        for title, axis, values in measures
    )


CLASSES = Claim(
    name="convergence_classes",
    sentence="On a cyclic game self-play methods with constant steps fall into four classes: the last iterate reaches "
    "the regularised Nash policy, or the plain one, or only the average does, or the limit is biased (Nash-MD's, whose "
    "own fading steps converge: nash_md_last_iterate).",
    paper="2312.00886",
    rule="Heart: every method is found in the class of its theory on rps and on brps. Regularised: KL(pi*_tau || pi) "
    f"< {EXACT:g} nats; plain: plain gap < {SOLVED:g}; biased: no probability moves by {STILL:g} in the last half; "
    "on average: the KL from the plain Nash policy grew in the last half, and the average's gap is below a fifth of "
    "the last one's. Runs with settings known to cycle stand beside and do not count.",
    program=run,
)
