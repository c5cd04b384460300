"""What a fit in the labels world gives: figures, learning curves, and the tensors that make a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Split


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """figures   name -> value on the held-out examples.
    curves    name -> one value for each epoch (or other stretch) of training.
    tensors   name -> weights and buffers.
    """

    figures: Mapping[str, float]
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


class Recipe(Protocol):
    """A method of the labels world: a frozen record of settings that trains on a split, by named seeds alone."""

    def run(self, split: Split, seeds: Seeds) -> Outcome: ...
