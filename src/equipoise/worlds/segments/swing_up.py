"""The pendulum as a control task: episodes of the best policy with noise, judged by its optimal advantages."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from equipoise.play.seeds import Seeds
from equipoise.worlds.scored.fit import Training
from equipoise.worlds.segments.control import Control, ControlSettings
from equipoise.worlds.segments.environment import Floats, Trajectories
from equipoise.worlds.segments.heads import Head
from equipoise.worlds.segments.pendulum import FASTEST, TORQUE, Pendulum, SwingUp
from equipoise.worlds.segments.pictures import torque_map


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


TRAINING = Training(steps=1500, batch=64, lr=1e-3)


def pendulum(settings: ControlSettings | None = None) -> Control:
    """The control task of the pendulum."""
    chosen, environment = settings or ControlSettings(), Pendulum()
    return Control(
        environment=environment,
        head=Head(
            kind=chosen.policy,
            observation_size=environment.observation_size,
            actions=environment.actions,
            hidden=(chosen.hidden, chosen.hidden),
            scale=(1.0, 1.0, FASTEST),
        ),
        title="Pendulum swing-up",
        record=record,
        advantage=solved().advantage,
        pictures=torque_map,
        about={"environment": "the dynamics of Pendulum-v1, in numpy"},
    )
