"""Worlds that a run can name: `equipoise align METHOD --world NAME`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    defaults    method -> settings by dotted names that it takes here where none is given, and under "" what every
                method takes that has a parameter of that name.
    """

    name: str
    title: str
    settings: Callable[[], type[Any]]
    task: Callable[[Any, int], Task]
    training: Callable[[], Training]
    extra: str = ""
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _control_settings() -> type[Any]:
    from equipoise.worlds.segments.control import ControlSettings

    return ControlSettings


def _pendulum(settings: Any, seed: int) -> Task:
    from equipoise.worlds.segments.swing_up import pendulum

    return pendulum(settings).task(settings, seed)


def _pendulum_training() -> Training:
    from equipoise.worlds.segments.swing_up import TRAINING

    return TRAINING


def _image_settings() -> type[Any]:
    from equipoise.worlds.diffusion.digits import ImageSettings

    return ImageSettings


def _images(settings: Any, seed: int) -> Task:
    from equipoise.worlds.diffusion.digits import image_task

    return image_task(settings, seed)


def _image_training() -> Training:
    from equipoise.worlds.diffusion.digits import TRAINING

    return TRAINING


# beta acts on means over pixels: an error summed over 64 pixels would take a 64th of it
IMAGES: Mapping[str, Mapping[str, Any]] = {
    "": {"objective.beta": 2000.0},
    "seppo": {"play.rounds": 7, "train.steps": 30},
    "subject_rpo": {
        "objective.beta": 2.0,
        "play.rounds": 6,
        "train.steps": 40,
        "train.batch": 16,
        "train.lr": 3e-4,
    },
    "dragon": {"play.rounds": 4, "play.prompts": 96, "train.steps": 40},
    "dragon_unpaired": {"play.rounds": 4, "play.prompts": 96, "train.steps": 40},
}

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
        Choice(
            name="images",
            title="diffusion: images of a small denoiser, digits or one's own; preferences between images or sets",
            settings=_image_settings,
            task=_images,
            training=_image_training,
            extra="diffusion",
            defaults=IMAGES,
        ),
    )
}


def world(name: str) -> Choice:
    """The world of that name. Raises KeyError that names the nearest ones."""
    return WORLDS[known_name(name, WORLDS, "world", "equipoise methods --worlds")]
