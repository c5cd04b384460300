"""Labelled examples: features, labels, and what says which of two examples is the better one of its class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """N labelled examples of F features.

    x        [N, F] features, float32.
    y        [N] labels in 0..classes-1.
    classes  C >= 2.
    typical  [N] how typical an example is of its class: of two of one class the larger is preferred; None where nothing
             says so.
    side     S of images of S x S pixels, row by row; None for features of another kind.

    Raises ValueError for shapes or labels that do not fit together.
    """

    x: Float[Tensor, "N F"]
    y: Int[Tensor, N]
    classes: int
    typical: Float[Tensor, N] | None = None
    side: int | None = None

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or len(self.x) != len(self.y):
            raise ValueError(f"features {tuple(self.x.shape)} and labels {tuple(self.y.shape)} do not fit")
        if (
            self.classes < 2
            or not len(self.y)
            or not 0 <= int(self.y.min()) <= int(self.y.max()) < self.classes
        ):
            raise ValueError(f"labels must lie in 0..{self.classes - 1}, and there must be some")
        if self.typical is not None and self.typical.shape != self.y.shape:
            raise ValueError(f"typical has shape {tuple(self.typical.shape)}, labels {tuple(self.y.shape)}")
        if self.side is not None and self.side**2 != self.x.shape[1]:
            raise ValueError(
                f"images of side {self.side} need {self.side**2} features, got {self.x.shape[1]}"
            )

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Tensor) -> Examples:
        """The examples at the given rows."""
        typical = None if self.typical is None else self.typical[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], typical=typical)

    def relabelled(self, y: Tensor) -> Examples:
        """The same examples with other labels, as noise makes them."""
        return replace(self, y=y)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Training examples and the held-out ones on which figures are read."""

    train: Examples
    test: Examples


def divided(examples: Examples, share: float, rng: np.random.Generator) -> Split:
    """A random split with `share` of every class in the training part. Raises ValueError if a part would be empty."""
    train: list[int] = []
    for label in range(examples.classes):
        own = rng.permutation(np.flatnonzero(examples.y.numpy() == label))
        train += own[: round(share * len(own))].tolist()
    chosen = np.isin(np.arange(len(examples)), train)
    if chosen.all() or not chosen.any():
        raise ValueError(f"a training share of {share} leaves one part of {len(examples)} examples empty")
    return Split(
        train=examples.take(torch.from_numpy(np.flatnonzero(chosen))),
        test=examples.take(torch.from_numpy(np.flatnonzero(~chosen))),
    )


def long_tailed(examples: Examples, most: int, least: int, rng: np.random.Generator) -> Examples:
    """Examples of class k thinned out to most (least/most)^(k/(C-1)), at random: a long tail of classes."""
    rows: list[int] = []
    for label in range(examples.classes):
        count = round(most * (least / most) ** (label / (examples.classes - 1)))
        rows += rng.permutation(np.flatnonzero(examples.y.numpy() == label))[:count].tolist()
    return examples.take(torch.tensor(sorted(rows)))


def with_flips(examples: Examples, kind: str, rate: float, rng: np.random.Generator) -> Examples:
    """Labels with noise: "class" turns label k into k + 1 (mod C), "uniform" into any other, each with rate in [0, 1).

    Raises ValueError for another kind or rate.
    """
    if kind not in ("none", "class", "uniform") or not 0 <= rate < 1:
        raise ValueError(f"noise is none, class or uniform at a rate in [0, 1), got {kind!r} at {rate!r}")
    if kind == "none":
        return examples
    count, classes = len(examples), examples.classes
    flipped = torch.from_numpy(rng.random(count) < rate)
    step = (
        torch.ones_like(examples.y) if kind == "class" else torch.from_numpy(rng.integers(1, classes, count))
    )
    return examples.relabelled(torch.where(flipped, (examples.y + step) % classes, examples.y))
