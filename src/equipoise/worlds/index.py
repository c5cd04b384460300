"""Worlds that a run can name: `equipoise align METHOD --world NAME`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from equipoise.name_lookup import known_name

if TYPE_CHECKING:
    from equipoise.worlds.scored.fit import Training
    from equipoise.worlds.scored.task import Task


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A world by name.

    settings    a frozen dataclass: the world's own settings with their defaults, checked when it is made.
    task        (settings, seed of the run) -> its task.
    training    its training defaults.
    extra       the optional extra that it needs, or "".
    """

    name: str
    title: str
    settings: Callable[[], type[Any]]
    task: Callable[[Any, int], Task]
    training: Callable[[], Training]
    extra: str = ""


def _control_settings() -> type[Any]:
    from equipoise.worlds.segments.control import ControlSettings

    return ControlSettings


def _pendulum(settings: Any, seed: int) -> Task:
    from equipoise.worlds.segments.swing_up import pendulum

    return pendulum(settings).task(settings, seed)


def _pendulum_training() -> Training:
    from equipoise.worlds.segments.swing_up import TRAINING

    return TRAINING


WORLDS: dict[str, Choice] = {
    world.name: world
    for world in (
        Choice(
            name="pendulum",
            title="control: swing a pendulum up and hold it; preferences between segments of its motion",
            settings=_control_settings,
            task=_pendulum,
            training=_pendulum_training,
        ),
    )
}


def world(name: str) -> Choice:
    """The world of that name. Raises KeyError that names the nearest ones."""
    return WORLDS[known_name(name, WORLDS, "world", "equipoise methods --worlds")]
