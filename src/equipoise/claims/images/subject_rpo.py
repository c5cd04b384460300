"""Subject RPO (2407.12164): the lambda-harmonic reward as a rule of early stopping, with four images of a three."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, verdict
from equipoise.claims.images.runs import SEEDS, course, settings_at
from equipoise.claims.small_models import line
from equipoise.core.objectives import Vpo
from equipoise.methods.subject_rpo import SUBJECT_RPO
from equipoise.worlds.diffusion.digits import TRAINING

BETA, ALPHA, SHARE = 2.0, 1.0, 0.5
ROUNDS: Mapping[Scale, int] = {"quick": 2, "full": 6}
STEPS: Mapping[Scale, int] = {"quick": 3, "full": 40}


def runs(scale: Scale) -> Array:
    """[seeds, rounds + 1] mean harmonic reward of samples."""
    settings = settings_at(scale, oracle="harmonic", share=SHARE, rationality=1.0, pairs=64)
    training = replace(TRAINING, steps=STEPS[scale], batch=16, lr=3e-4, warmup=0.0)
    method = replace(
        SUBJECT_RPO, objective=Vpo(beta=BETA, alpha=ALPHA, optimistic=False), rounds=ROUNDS[scale]
    )
    return np.array(
        [
            [figures["reward"] for figures in course(scale, settings, method, training, seed)]
            for seed in range(1, SEEDS[scale] + 1)
        ]
    )


def judge(reward: Array) -> Evidence:
    best = reward.argmax(axis=1)
    gain = reward.max(axis=1) - reward[:, 0]
    early = best < reward.shape[1] - 1
    return Evidence(
        verdict=verdict(bool((gain > 0.05).all()), [bool(early.mean() > 0.5)]),
        summary=f"The best mean reward is {gain.mean():.3f} ({gain.min():.3f} to {gain.max():.3f}) above the "
        f"start's; it is reached before the last round on {early.sum()} of {len(early)} seeds (rounds "
        f"{', '.join(map(str, best))}), after which {(reward.max(axis=1) - reward[:, -1]).mean():.3f} is lost in "
        "the mean.",
        tables=(
            Table(
                "mean harmonic reward of samples by round, each seed",
                ("seed", *(f"round {number}" for number in range(reward.shape[1]))),
                tuple((number, *map(float, row)) for number, row in enumerate(reward, start=1)),
            ),
        ),
        panels=(
            Panel(
                "harmonic reward",
                "round",
                "r",
                (line("mean over seeds", range(reward.shape[1]), reward),),
                log_x=False,
                log_y=False,
            ),
        ),
    )


EARLY_STOPPING = Claim(
    name="subject_rpo_early_stopping",
    sentence="The harmonic mean of likeness and prompt rises early in fine-tuning on a few images of a subject and "
    "falls later, so that it says when to stop.",
    paper="2407.12164",
    rule="Digits, four images of a three, likeness by the cosine of pixels, P(three) for the prompt, lambda "
    f"{SHARE:g}; {ROUNDS['full']} rounds of {STEPS['full']} steps of 16 at a rate of 3e-4, 5 seeds. Heart: on "
    "every seed the best round's mean reward exceeds the start's by more than 0.05. Also: on more than half of the "
    "seeds the best round is not the last.",
    program=lambda scale: judge(runs(scale)),
    set="the rule follows a reference run of the same recipe (one seed); nothing of this program had been seen.",
)
