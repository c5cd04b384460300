"""Pictures of control policies: the torque in every state of the pendulum, with paths through it."""

from __future__ import annotations

import io

import numpy as np

from equipoise.play.seeds import Seeds
from equipoise.worlds.scored.task import Parameters
from equipoise.worlds.segments.environment import Environment
from equipoise.worlds.segments.heads import Head
from equipoise.worlds.segments.pendulum import FASTEST, TORQUE, Pendulum, wrapped

PATHS, POINTS = 3, 61


def torque_map(
    environment: Environment, head: Head, parameters: Parameters, seed: int
) -> list[tuple[str, bytes]]:
    """One figure: the policy's mean torque over angle and speed, and the first episodes of an evaluation in it."""
    from matplotlib.figure import Figure  # a second of imports, which a run without pictures does without

    pendulum = Pendulum()
    angle, speed = np.linspace(-np.pi, np.pi, POINTS), np.linspace(-FASTEST, FASTEST, POINTS)
    states = np.stack(np.meshgrid(angle, speed, indexing="xy"), axis=-1).reshape(-1, 2)
    act = head.act(parameters, sampled=False)
    torque = np.asarray(act(pendulum.observe(states), np.random.default_rng(0)))[:, 0]
    seeds = Seeds(seed)
    starts = [seeds("episode", number) for number in range(PATHS)]
    found = environment.rollout(act, starts, environment.horizon, seeds.generator("actions", "False"))
    figure = Figure(figsize=(5.2, 3.4), dpi=140, layout="constrained")
    axes = figure.subplots()
    shown = axes.pcolormesh(
        angle,
        speed,
        torque.reshape(POINTS, POINTS),
        cmap="PuOr",
        vmin=-TORQUE,
        vmax=TORQUE,
        shading="nearest",
    )
    for path in pendulum.state(found.observations):
        turned = (
            np.abs(np.diff(path[:, 0])) > np.pi
        )  # the path leaves at one side and comes back at the other
        line = np.where(np.append(turned, False)[:, None], np.nan, path)
        axes.plot(wrapped(line[:, 0]), line[:, 1], color="black", linewidth=0.9)
        axes.plot(*path[0], marker="o", markersize=4, color="black")
    axes.set_xlabel("angle (0: upright)")
    axes.set_ylabel("angular speed")
    figure.colorbar(shown, ax=axes, label="torque")
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return [
        (
            f"The policy's torque in every state, and {PATHS} episodes from their starts (dots)",
            file.getvalue(),
        )
    ]
