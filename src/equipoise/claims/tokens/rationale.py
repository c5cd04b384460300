"""Rationales (2407.14477): what a likelihood of reasons adds to DPO, by the number of pairs.

The playground's transformer and its game, whose rationales name what of the chosen answer fits the request and of the
rejected one does not. Win rates are exact and on requests that no pair has.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.small_models import line
from equipoise.claims.tokens.frontier import ahead
from equipoise.claims.tokens.tiny_fits import BASE, Playground, fit
from equipoise.core.objectives import Objective, WithRationale

SIZES = (64, 256, 1024)
WITHOUT, WITH, MORE = "DPO", "DPO and rationales, gamma 0.01", "DPO and rationales, gamma 0.1"
GAMMAS = {WITH: 0.01, MORE: 0.1}  # the method's on the playground, and the paper's


def objective(name: str) -> Objective:
    return BASE if name == WITHOUT else WithRationale(base=BASE, gamma_r=GAMMAS[name])


def run(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (3, 4), "full": (5, 40)}[scale]
    sizes = {"quick": (16, 64), "full": SIZES}[scale]
    losses = {"quick": (WITHOUT, WITH), "full": (WITHOUT, WITH, MORE)}[scale]
    world, found = Playground(), {}
    for count in sizes:
        data = [world.rows(count, seed) for seed in range(seeds)]
        for name in losses:
            rates = []
            for seed, rows in enumerate(data):
                policy = world.policy()
                fit(policy, rows, objective(name), steps=steps, seed=seed)
                rates.append(world.win_rate(policy))
            found[name, count] = np.array(rates)
    return judge(found)


def judge(found: Mapping[tuple[str, int], Array]) -> Evidence:
    """found: (loss, pairs) -> [seeds] win rates."""
    sizes = sorted({count for _, count in found})
    losses = tuple(dict.fromkeys(name for name, _ in found))
    mean = {name: np.mean([found[name, count] for count in sizes], axis=0) for name in losses}
    gain = ahead(mean[WITH], mean[WITHOUT])
    fewer = ahead(found[WITH, sizes[-2]], found[WITHOUT, sizes[-1]])
    told = "; ".join(
        f"{count} pairs: " + ", ".join(f"{name} {found[name, count].mean():.1%}" for name in losses)
        for count in sizes
    )
    return Evidence(
        verdict=verdict(gain[1] > 0, (fewer[0] >= 0,)),
        summary=f"Win rate against the reference, {told}. Averaged over the numbers of pairs, rationales add "
        f"{_told(gain)} of win rate; {sizes[-2]} pairs with them are {_told(fewer)} from {sizes[-1]} without.",
        tables=(
            Table(
                "win rate against the reference on unseen requests",
                ("pairs", "loss", "win rate", "from", "to", "more than DPO", "from", "to"),
                tuple(row(name, count, found) for count in sizes for name in losses),
            ),
        ),
        panels=(
            Panel(
                "win rate on unseen requests",
                "pairs",
                "win rate",
                tuple(
                    line(name, sizes, np.stack([found[name, count] for count in sizes], axis=1))
                    for name in losses
                ),
                log_y=False,
            ),
        ),
    )


def row(name: str, count: int, found: Mapping[tuple[str, int], Array]) -> tuple[Cell, ...]:
    mean, low, high = interval(found[name, count][:, None])
    own = (float(mean[0]), float(low[0]), float(high[0]))
    return (count, name, *own, *ahead(found[name, count], found[WITHOUT, count]))


def _told(difference: tuple[float, float, float]) -> str:
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference)


DATA_EFFICIENCY = Claim(
    name="rationale_data_efficiency",
    sentence="A preference loss that also learns why the chosen response is better needs fewer pairs for the same win "
    "rate.",
    paper="2407.14477",
    rule=f"The playground's model, DPO against DPO and gamma = 0.01 times the rationale's NLL, from {SIZES[0]}, "
    f"{SIZES[1]} and {SIZES[2]} pairs, as many steps for every number and the same pairs and order for both; exact win "
    "rate against the reference on unseen requests. Heart: averaged over the three numbers of pairs it is higher with "
    "rationales, beyond the 95 % interval of the paired difference. Also: with rationales a quarter of the largest "
    "number of pairs wins, on average, at least as often as all of them without. gamma = 0.1, the paper's, is shown "
    "and does not count.",
    program=run,
)
