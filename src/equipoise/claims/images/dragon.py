"""DRAGON (2504.15217): a reward of whole sets trains as well as one of single images; exemplars are of four classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from equipoise.claims.claim import Array, Claim, Evidence, Scale, verdict
from equipoise.claims.images.runs import SEEDS, by_seed, column, course, settings_at
from equipoise.core.objectives import Dpo
from equipoise.methods.dragon import DRAGON
from equipoise.play.pairings.greedy_split import GreedySplit
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.recorded import TargetBeatsOwn
from equipoise.play.pairings.sampled import Pairs
from equipoise.worlds.diffusion.digits import TRAINING

BETA, PAIRS, APART = 2000.0, 96, 0.5
ROUNDS: Mapping[Scale, int] = {"quick": 1, "full": 4}
STEPS: Mapping[Scale, int] = {"quick": 3, "full": 40}
SETS, SINGLE, RANDOM = "sets (Frechet)", "single images (Mahalanobis)", "random split"
PAIRINGS: Mapping[str, Pairing] = {
    SETS: GreedySplit(),
    SINGLE: Pairs(labels="soft"),
    RANDOM: TargetBeatsOwn(),
}

Arms = Mapping[str, Mapping[str, Array]]


def runs(scale: Scale) -> Arms:
    settings = settings_at(scale, oracle="exemplars")
    training = replace(TRAINING, steps=STEPS[scale], batch=16)
    found: dict[str, dict[str, Array]] = {}
    for name, pairing in PAIRINGS.items():
        method = replace(DRAGON, pairing=pairing, objective=Dpo(beta=BETA), rounds=ROUNDS[scale])
        courses = [
            course(scale, settings, method, training, seed, PAIRS) for seed in range(1, SEEDS[scale] + 1)
        ]
        found[name] = {measure: column(courses, measure) for measure in ("frechet", "confidence")}
        found.setdefault("start", {"frechet": column(courses, "frechet", 0)})
    return found


def judge(found: Arms, scale: Scale) -> Evidence:
    means = {name: float(found[name]["frechet"].mean()) for name in (*PAIRINGS, "start")}
    nearer = found[RANDOM]["frechet"] - found[SETS]["frechet"]
    return Evidence(
        verdict=verdict(
            bool((nearer > 0).all()) and means[RANDOM] - means[SETS] >= APART,
            [means[RANDOM] - means[SINGLE] >= APART, means[SETS] <= means[SINGLE]],
        ),
        summary=f"The Frechet distance to the exemplars is {means['start']:.2f} at the start and ends at "
        f"{means[SETS]:.2f} by the reward of sets, {means[SINGLE]:.2f} by that of single images, "
        f"{means[RANDOM]:.2f} by a random split.",
        tables=(by_seed(f"samples after {ROUNDS[scale]} rounds of {STEPS[scale]} steps", found),),
    )


DRAGON_SETS = Claim(
    name="dragon_sets",
    sentence="A reward of a whole set of samples, by a greedy split into a better and a worse set, trains a "
    "diffusion model on-policy.",
    paper="2504.15217",
    rule=f"Digits, exemplars of the classes 3, 5, 8 and 9, ten principal components, {ROUNDS['full']} rounds of "
    f"{PAIRS} pairs of own samples and {STEPS['full']} steps of 16 pairs at a rate of 1e-4, beta {BETA:g}, 5 "
    "seeds. Heart: by the Frechet distance of sets the samples end nearer to the exemplars than by a random split "
    f"on every seed, by {APART:g} in the mean. Also: by a reward of single images they end {APART:g} nearer than "
    "by a random split in the mean; and the reward of sets is no worse in the mean.",
    program=lambda scale: judge(runs(scale), scale),
    set="the rule follows reference runs (3 seeds) of a recipe with larger batches; nothing of this program had "
    "been seen.",
)
