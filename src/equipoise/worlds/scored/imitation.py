"""Behaviour cloning: a policy's start by maximum likelihood of recorded examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from equipoise.core.objectives import Sft
from equipoise.play.rows import Rows
from equipoise.worlds.scored.anchors import FrozenScores
from equipoise.worlds.scored.examples import Examples
from equipoise.worlds.scored.fit import Fit, Training
from equipoise.worlds.scored.policies import Policy
from equipoise.worlds.scored.task import Parameters, Score


def cloned(
    score: Score,
    examples: Examples,
    begin: Parameters,
    which: np.ndarray,
    training: Training,
    seed: Callable[[str, int], int],
) -> dict[str, torch.Tensor]:
    """Parameters after `training.steps` steps on -S(example)/length of the examples at `which`, without moments.

    Raises ValueError if there is no example.
    """
    if not len(which):
        raise ValueError("there is no recorded example to clone; set the warm start to 0 steps")
    rows = Rows(
        prompts=np.zeros(len(which), dtype=np.int64),
        responses=which.astype(np.int64)[:, None],
        weight=np.ones(len(which)),
        writers=("recorded",),
        reward=np.ones((len(which), 1)),
    )
    anchors = FrozenScores(score, examples, rows, {}, {}, {})
    fit = Fit(
        score, examples, rows, anchors, Sft(), training, begin=Policy(begin), steps=training.steps, seed=seed
    )
    while fit.position < fit.steps:
        fit.step()
    return dict(fit.policy.parameters)
