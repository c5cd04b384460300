"""Contrastive preference learning (2310.13639) on a pendulum: against cloning, and on labels of another model.

The pendulum is solved on a grid, so that regret is known. 80 episodes of its best policy with noise are cut into
segments of 16 steps, and 2,000 pairs of them are labelled. All policies start from the same behaviour clone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from equipoise.claims.claim import Array, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import moved_seed

if TYPE_CHECKING:
    from equipoise.worlds.scored.world import ScoredWorld

CLONE, PREFERRED, BIASED, PLAIN, PARTIAL = (
    "behaviour cloning of all segments",
    "cloning of the preferred segments",
    "CPL, bias 1/2",
    "CPL, bias 1",
    "CPL, bias 1, labels by partial return",
)


def _trained(world: ScoredWorld, method: str, parameters: Mapping[str, float], seed: int) -> float:
    from equipoise.methods.index import get
    from equipoise.play.round import play

    state = play(get(method).with_parameters(parameters), world, world.begin())
    return _worth(world, state.policies["start"].parameters, seed)


def _worth(world: ScoredWorld, parameters: object, seed: int) -> float:
    return float(world.task.evaluation.measure(parameters, seed)["return"]["value"])  # type: ignore[arg-type]


def returns(seed: int, steps: int) -> dict[str, float]:
    """Mean return of 50 episodes of each policy's mean action, for one seed of data, starts and batches."""
    from equipoise.worlds.scored.fit import Training
    from equipoise.worlds.scored.world import ScoredWorld
    from equipoise.worlds.segments.control import ControlSettings
    from equipoise.worlds.segments.swing_up import pendulum

    settings = ControlSettings(policy="deterministic")
    training = Training(steps=steps, batch=64, lr=1e-3)
    task = pendulum(settings).task(settings, seed)
    world = ScoredWorld.in_memory(task, training, seed=seed)
    clone = dict(world.begin().policies["start"].parameters)
    task = replace(task, start=lambda drawn: dict(clone))
    world = replace(world, task=task)
    found = {CLONE: _worth(world, clone, seed)}
    found[PREFERRED] = _trained(world, "sft", {}, seed)
    found[BIASED] = _trained(world, "cpl", {"alpha": 0.1, "bias": 0.5}, seed)
    found[PLAIN] = _trained(world, "cpl", {"alpha": 0.1, "bias": 1.0}, seed)
    other = replace(settings, oracle="partial_return")
    relabelled = replace(pendulum(other).task(other, seed), start=task.start)
    world = ScoredWorld.in_memory(relabelled, training, seed=seed)
    found[PARTIAL] = _trained(world, "cpl", {"alpha": 0.1, "bias": 1.0}, seed)
    return found


def run(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (2, 150), "full": (5, 1500)}[scale]
    found = [returns(moved_seed(seed), steps) for seed in range(seeds)]
    return judge({name: np.array([one[name] for one in found]) for name in found[0]})


def judge(found: Mapping[str, Array]) -> Evidence:
    """found: policy -> return [seeds]."""

    def ahead(one: str, other: str) -> tuple[float, float, float]:
        mean, low, high = interval((found[one] - found[other])[:, None])
        return float(mean[0]), float(low[0]), float(high[0])

    heart, clone, labels = ahead(PLAIN, PREFERRED), ahead(PREFERRED, CLONE), ahead(PLAIN, PARTIAL)
    rows = []
    for name, values in found.items():
        mean, low, high = (float(x[0]) for x in interval(values[:, None]))
        rows.append((name, mean, low, high, float(values.min()), float(values.max())))
    return Evidence(
        verdict=verdict(heart[1] > 0, (clone[1] > 0, labels[1] > 0)),
        summary=f"CPL earns {_said(heart)} more than cloning the preferred segments, which earns {_said(clone)} more "
        f"than cloning all of them; labels by regret earn CPL {_said(labels)} more than labels by partial return "
        f"({len(found[PLAIN])} seeds, paired).",
        tables=(
            Table(
                "return of an episode (the best policy about -170, a random one about -1,300)",
                ("policy", "mean over seeds", "from", "to", "worst seed", "best seed"),
                tuple(rows),
            ),
        ),
    )


def _said(found: tuple[float, float, float]) -> str:
    return f"{found[0]:+.0f} [{found[1]:+.0f}, {found[2]:+.0f}]"


CPL_CONTROL = Claim(
    name="cpl_control",
    sentence="A policy learnt from preferences between segments by a contrastive loss on its own log-likelihoods "
    "earns more than imitation of the preferred segments, without a reward or a value function; the labels must judge "
    "regret.",
    paper="2310.13639",
    rule="Heart: over seeds, paired, the return of CPL (alpha 0.1, bias 1) on labels by regret is higher than that of "
    "cloning the preferred segments, beyond the 95 % interval of the difference. Also, each beyond its interval: "
    "cloning the preferred segments earns more than cloning all; and CPL on labels by regret earns more than on labels "
    "by partial return of the same pairs. Nothing is claimed of a bias below 1, whose figures are shown.",
    set="the rule before the run of five seeds; one seed of CPL and of cloning all segments had been seen when the "
    "world was built, and one of labels by partial return, with actions in other units.",
    program=run,
)
