"""SePPO (2410.05255): what the anchor criterion is for. Winners are the brightest quarter of the digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from equipoise.claims.claim import Array, Claim, Evidence, Scale, verdict
from equipoise.claims.images.runs import SEEDS, by_seed, column, course, settings_at, world
from equipoise.core.objectives import Seppo
from equipoise.methods.seppo import SEPPO
from equipoise.worlds.diffusion.digits import TRAINING
from equipoise.worlds.diffusion.oracles import ink

BETA, WINNERS, TOP = 2000.0, 192, 0.25
ROUNDS: Mapping[Scale, int] = {"quick": 2, "full": 5}
STEPS: Mapping[Scale, int] = {"quick": 3, "full": 30}
FLIP, NONE = "anchor criterion", "without"

Arms = Mapping[str, Mapping[str, Array]]


def runs(scale: Scale) -> Arms:
    settings = settings_at(scale, top=TOP, pairs=WINNERS, sampling=10)
    training = replace(TRAINING, steps=STEPS[scale])
    found: dict[str, dict[str, Array]] = {}
    for name, loss in ((FLIP, Seppo(beta=BETA)), (NONE, Seppo(beta=BETA, criterion="none"))):
        method = replace(SEPPO, objective=loss, rounds=ROUNDS[scale])
        courses = [course(scale, settings, method, training, seed) for seed in range(1, SEEDS[scale] + 1)]
        found[name] = {"ink": column(courses, "reward"), "confidence": column(courses, "confidence")}
    return found


def judge(found: Arms, winners: float, scale: Scale) -> Evidence:
    """winners   mean brightness of the winners."""
    ink_apart = found[NONE]["ink"] - found[FLIP]["ink"]
    lost = found[FLIP]["confidence"] - found[NONE]["confidence"]
    beyond = found[NONE]["ink"].mean() - winners
    return Evidence(
        verdict=verdict(
            bool((ink_apart > 0).all() and (lost > 0).all()),
            [bool(beyond > 0), bool(found[FLIP]["ink"].mean() <= winners + 0.01)],
        ),
        summary=f"Samples end at {found[FLIP]['ink'].mean():.3f} of ink and {found[FLIP]['confidence'].mean():.3f} "
        f"of confidence with the criterion, at {found[NONE]['ink'].mean():.3f} and "
        f"{found[NONE]['confidence'].mean():.3f} without; the winners' own mean is {winners:.3f}.",
        tables=(by_seed(f"samples after {ROUNDS[scale]} rounds of {STEPS[scale]} steps", found),),
    )


def run(scale: Scale) -> Evidence:
    every = ink(world(scale).images.values)
    brightest = np.sort(every)[::-1][: round(TOP * len(every))]
    return judge(runs(scale), float(brightest.mean()), scale)


SEPPO_ANCHOR = Claim(
    name="seppo_anchor",
    sentence="Deciding by the reference's error on the winner whether its sample is a loser keeps learning from "
    "winners alone from going too far.",
    paper="2410.05255",
    rule=f"Digits, {WINNERS} winners among the brightest quarter, {ROUNDS['full']} rounds of {STEPS['full']} steps "
    f"of 32 pairs at a rate of 1e-4, beta {BETA:g}, own samples by 10 DDIM steps, 5 seeds. Heart: on every seed "
    "samples without the criterion are brighter and a classifier is less confident of them. Also: without it their "
    "mean brightness exceeds the winners' own, and with it exceeds that by at most 0.01.",
    program=run,
    set="the rule follows reference runs of a longer recipe (200 steps, 3 seeds); nothing of this program had been "
    "seen.",
)
