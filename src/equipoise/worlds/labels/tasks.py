"""The worlds of labelled examples by name, and the split on which a run's fits are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Examples, Split, divided, long_tailed
from equipoise.worlds.labels.files import read
from equipoise.worlds.labels.sets import SETS

OWN = "examples"  # the world of the user's file
TITLES: Mapping[str, str] = {
    "digits": "classification: 1,797 images of handwritten digits, ten classes",
    "diabetes": "classification: 442 patients, two classes, and which of two of a class is the more typical",
    OWN: "classification: labelled examples of your own, task.file=FILE",
}


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """What a run in a world of labelled examples is made on.

    file    of the user's examples, in the world `examples` alone; its column `test` decides the split if it has one.
    share   of each class that is for training, in (0, 1).
    tail    training examples of the last class: the classes fall to it by a constant factor; 0: all stay.
    fits    of a run, each with a split, a start and an order of its own, from the seeds seed, seed + 1, ..
    """

    file: str = ""
    share: float = 0.6
    tail: int = 0
    fits: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie in (0, 1), got {self.share!r}")
        if self.fits < 1 or self.tail < 0:
            raise ValueError(
                f"fits must be 1 or more and tail not negative, got {self.fits!r} and {self.tail!r}"
            )

    def examples(self, world: str) -> Examples | Split:
        """The examples of a world. Raises ValueError for a file that is missing or not asked for, and DataError."""
        if world in SETS:
            if self.file:
                raise ValueError(f"the world {world} has its own data; task.file is for the world examples")
            return SETS[world]()
        if not self.file:
            raise ValueError("the world examples needs task.file=FILE, an .npz archive or a table")
        if not Path(self.file).is_file():
            raise ValueError(f"there is no file {self.file}")
        return read(self.file)

    def split(self, examples: Examples | Split, seeds: Seeds) -> Split:
        """Training and held-out examples of one fit."""
        parts = (
            examples
            if isinstance(examples, Split)
            else divided(examples, self.share, seeds.generator("split"))
        )
        if not self.tail:
            return parts
        most = int((parts.train.y == 0).sum())
        return Split(
            train=long_tailed(parts.train, most, self.tail, seeds.generator("tail")), test=parts.test
        )
