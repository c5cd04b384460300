"""The pendulum as a control task: episodes of the best policy with noise, judged by its optimal advantages."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from equipoise.play.seeds import Seeds
from equipoise.worlds.scored.fit import Training
from equipoise.worlds.segments.control import Control
from equipoise.worlds.segments.environment import Floats, Trajectories
from equipoise.worlds.segments.heads import Head
from equipoise.worlds.segments.pendulum import FASTEST, TORQUE, Pendulum, SwingUp


@cache
def solved() -> SwingUp:
    """The optimal values, computed once in a process."""
    return SwingUp()


def record(episodes: int, seed: int) -> Trajectories:
    """Episodes of the best actions with noise: each episode has a share of random torques, uniform on [0, 1]."""
    seeds, pendulum = Seeds(seed), Pendulum()
    draw = seeds.generator("behaviour")
    noise = draw.random(episodes)

    def act(observations: Floats, draw: np.random.Generator) -> npt.NDArray[np.generic]:
        random = draw.random(len(observations)) < noise
        torque = draw.uniform(-TORQUE, TORQUE, size=(len(observations), 1))
        return np.where(random[:, None], torque, solved().act(observations))

    starts = [seeds("start", number) for number in range(episodes)]
    return pendulum.rollout(act, starts, pendulum.horizon, draw)


def pendulum(**options: Any) -> Control:
    """The control task of the pendulum."""
    environment = Pendulum()
    head = Head(
        kind=options.get("kind", "deterministic"),
        observation_size=environment.observation_size,
        actions=environment.actions,
        hidden=(options.get("hidden", 64),) * 2,
        scale=(1.0, 1.0, FASTEST),
    )
    return Control(
        environment=environment,
        head=head,
        title="Pendulum swing-up",
        record=record,
        advantage=solved().advantage,
        training=Training(steps=1500, batch=64, lr=1e-3),
        defaults={
            "cpl": {"bias": 1.0},
        },
        about={"environment": "the dynamics of Pendulum-v1, in numpy"},
    )
