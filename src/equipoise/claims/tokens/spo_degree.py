"""SPO, self-supervised (2409.17791): can the missing content of a text be told, and does telling it help the policy?

The playground's transformer and its game. An answer's degrees lack 0, 25, 50 and 75 % of its key phrases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch

from equipoise.claims.claim import Array, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import moved_seed
from equipoise.claims.tokens.frontier import ahead
from equipoise.claims.tokens.tiny_fits import BASE, Playground, Row, fit, scores
from equipoise.core.auxiliary_heads import DegreeHeads, build_head
from equipoise.core.objectives import Objective, WithDegrees
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.live_reference import LiveScorer

PAIRS, UNSEEN, DEGREES = 512, 64, 4
CHANCE = log(DEGREES)
FROZEN, WITHOUT, WITH, MORE = "heads alone", "DPO", "DPO and degrees, gamma 0.1", "DPO and degrees, gamma 1"
GAMMAS = {FROZEN: 0.1, WITH: 0.1, MORE: 1.0}


def objective(name: str) -> Objective:
    return BASE if name == WITHOUT else WithDegrees(base=BASE, gamma_d=GAMMAS[name], degrees=DEGREES)


@dataclass(frozen=True)
class Learnt:
    """[seeds] win rate on unseen requests, and where there are heads the cross-entropy of other pairs' degrees."""

    win: Array
    nll: Array | None = None


def unseen_nll(part: LiveScorer, policy: CausalPolicy, rows: Sequence[Row]) -> float:
    with torch.no_grad():
        found = scores(part, rows, 2 * DEGREES, None, policy.pad)
    return -float(found.auxiliary_output("degree").mean())


def learn(world: Playground, name: str, seeds: int, pairs: int, steps: int) -> Learnt:
    win, nll = [], []
    for seed in range(seeds):
        rows = world.degraded(pairs, seed, DEGREES)
        policy = world.policy()
        width, layers = policy.model.config.hidden_size, policy.model.config.num_hidden_layers
        network = (
            None
            if name == WITHOUT
            else build_head(DegreeHeads(degrees=DEGREES), width, layers, moved_seed(seed))
        )
        part = fit(
            policy, rows, objective(name), steps=steps, seed=seed, network=network, frozen=name == FROZEN
        )
        if network is not None:
            nll.append(unseen_nll(part, policy, world.degraded(UNSEEN, 1000 + seed, DEGREES)))
        win.append(world.win_rate(policy))
    return Learnt(np.array(win), np.array(nll) if nll else None)


def run(scale: Scale) -> Evidence:
    seeds, pairs, steps = {"quick": (2, 64, 4), "full": (8, PAIRS, 48)}[scale]
    losses = {"quick": (FROZEN, WITHOUT, WITH), "full": (FROZEN, WITHOUT, WITH, MORE)}[scale]
    world = Playground()
    return judge({name: learn(world, name, seeds, pairs, steps) for name in losses})


def judge(found: Mapping[str, Learnt]) -> Evidence:
    gain = ahead(found[WITH].win, found[WITHOUT].win)
    below = {
        name: ahead(np.full(len(one.nll), CHANCE), one.nll)
        for name, one in found.items()
        if one.nll is not None
    }
    told = ", ".join(f"{name} {one.win.mean():.1%}" for name, one in found.items() if name != FROZEN)
    return Evidence(
        verdict=verdict(gain[1] > 0, (below[FROZEN][1] > 0, below[WITH][1] > 0)),
        summary=f"Win rate on unseen requests: {told}; degrees add {gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f}). "
        f"Cross-entropy of the degrees, {CHANCE:.3f} at chance: {CHANCE - below[FROZEN][0]:.3f} with a frozen policy, "
        f"{CHANCE - below[WITH][0]:.3f} trained with it.",
        tables=(
            Table(
                "win rate against the reference on unseen requests; cross-entropy of degrees on other pairs",
                (
                    "trained",
                    "win rate",
                    "from",
                    "to",
                    "more than DPO",
                    "from",
                    "to",
                    "cross-entropy",
                    "below chance from",
                ),
                tuple(
                    (
                        name,
                        *_interval(one.win),
                        *ahead(one.win, found[WITHOUT].win),
                        None if one.nll is None else float(one.nll.mean()),
                        below[name][1] if name in below else None,
                    )
                    for name, one in found.items()
                ),
            ),
        ),
    )


def _interval(values: Array) -> tuple[float, float, float]:
    mean, low, high = interval(values[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


DEGREE = Claim(
    name="spo_degree",
    sentence="Telling how much of a text's content was taken out is learnable, and learning it beside DPO gives a "
    "better policy.",
    paper="2409.17791",
    rule=f"The playground's model, DPO against DPO and gamma = 0.1 times the classification of {DEGREES} degrees, on "
    f"the same {PAIRS} pairs in the same order; exact win rate against the reference on unseen requests. Heart: the "
    "win rate is higher with degrees, beyond the 95 % interval of the paired difference. Also: on other pairs' texts "
    f"the classifier's cross-entropy is below chance, log {DEGREES}, likewise, trained alone on the frozen model and "
    "trained with it. gamma = 1 is shown and does not count.",
    program=run,
)
