"""What the claims on images share: runs of a method on the digits, from one pre-trained denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from equipoise.claims.claim import Array, Scale, Table
from equipoise.claims.draws import moved_seed
from equipoise.play.method import Method
from equipoise.play.round import play
from equipoise.play.state import State
from equipoise.worlds.diffusion.digits import ImageSettings, ImageWorld
from equipoise.worlds.scored.fit import Training
from equipoise.worlds.scored.world import ScoredWorld

SEEDS: Mapping[Scale, int] = {"quick": 2, "full": 5}
EVALUATED: Mapping[Scale, int] = {"quick": 64, "full": 192}
PRETRAINING: Mapping[Scale, int] = {"quick": 200, "full": 2500}
NOISE = 12_345  # seed of the noise that all policies of a claim are sampled from

Figures = Mapping[str, float]


def settings_at(scale: Scale, **changed: object) -> ImageSettings:
    """Settings of a claim's task; `changed` as in `ImageSettings`."""
    return replace(
        ImageSettings(samples=EVALUATED[scale], pretraining=PRETRAINING[scale]),
        **changed,  # type: ignore[arg-type]
    )


@cache
def world(scale: Scale) -> ImageWorld:
    """The digits and their denoiser, from the user's cache after the first time."""
    return ImageWorld.of(settings_at(scale))


def course(
    scale: Scale, settings: ImageSettings, method: Method, training: Training, seed: int, per_round: int = 64
) -> list[Figures]:
    """Measures of the policy at the start and after each round."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        drawn = moved_seed(seed)
        task = world(scale).task(settings, drawn)
        played = ScoredWorld.in_memory(task, training, seed=drawn, per_round=per_round)
        found: list[Figures] = []

        def boundary(state: State) -> None:
            measured = task.evaluation.measure(played.parameters(state, "start"), NOISE)
            found.append({name: float(value["value"]) for name, value in measured.items()})

        play(method, played, played.begin(method.update.memory, keep_past=method.asks_the_past), boundary)
        return found
    finally:
        torch.set_num_threads(threads)


def column(runs: list[list[Figures]], name: str, round: int = -1) -> Array:
    """[seeds] a measure after a round."""
    return np.array([run[round][name] for run in runs])


def by_seed(title: str, rows: Mapping[str, Mapping[str, Array]]) -> Table:
    """Arm -> measure -> [seeds] as a table of means and of every seed."""
    cells = tuple(
        (arm, name, float(values.mean()), " ".join(f"{value:.3f}" for value in values))
        for arm, measures in rows.items()
        for name, values in measures.items()
    )
    return Table(title, ("arm", "measure", "mean", "seeds"), cells)
