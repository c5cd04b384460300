"""Rewards of whole sets of images: Frechet distance to exemplars, and Vendi diversity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equipoise.play.state import Floats
from equipoise.worlds.diffusion.images import IMAGE
from equipoise.worlds.diffusion.oracles import brightness, preferred
from equipoise.worlds.scored.examples import Arrays, Indices


@dataclass(frozen=True, eq=False)
class Features:
    """Principal components of images' pixels: features [N, F] whose means and covariances describe a set.

    mean   [pixels]    axes   [pixels, F]
    """

    mean: Floats
    axes: Floats

    @classmethod
    def fitted(cls, images: npt.NDArray[np.float32], count: int = 10) -> Features:
        """The first `count` components; fewer where the images span fewer dimensions."""
        pixels = 2 * brightness(images)
        mean = pixels.mean(axis=0)
        axes = np.linalg.svd(pixels - mean, full_matrices=False)[2][:count].T
        return cls(mean, axes)

    def of(self, images: npt.NDArray[np.float32]) -> Floats:
        return np.asarray((2 * brightness(images) - self.mean) @ self.axes)


def frechet(first: Floats, second: Floats) -> float:
    """Frechet distance of the Gaussians of two sets of features [N, F] and [M, F], N, M >= 2.

        ||mu_1 - mu_2||^2 + tr( S_1 + S_2 - 2 (S_1^{1/2} S_2 S_1^{1/2})^{1/2} )

    Raises ValueError for a set of fewer than two.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("a Frechet distance needs two images or more on both sides")
    one, two = np.atleast_2d(np.cov(first.T)), np.atleast_2d(np.cov(second.T))
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ two @ root), 0, None)).sum()
    apart = first.mean(axis=0) - second.mean(axis=0)
    return float(apart @ apart + np.trace(one) + np.trace(two) - 2 * cross)


def vendi(features: Floats) -> float:
    """Vendi score of features [N, F]: the effective number of different items (Friedman and Dieng 2022).

        exp( -sum_i l_i log l_i ),    l the eigenvalues of K/N, K_ij = cos(x_i, x_j)

    1 for equal items, N for orthogonal ones. Raises ValueError for an empty set.
    """
    if not len(features):
        raise ValueError("the diversity of no images is not defined")
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    # the Gram matrix of features has the kernel's eigenvalues other than 0, and is the smaller one of the two
    gram = unit.T @ unit if unit.shape[1] < len(unit) else unit @ unit.T
    values = np.clip(np.linalg.eigvalsh(gram / len(unit)), 0, None)
    kept = values[values > 1e-15]
    return float(np.exp(-(kept * np.log(kept)).sum()))


@dataclass(frozen=True, eq=False)
class FrechetJudge:
    """Oracle by closeness to the distribution of exemplars.

    of a set        minus its Frechet distance to the exemplars
    of one image    minus its squared Mahalanobis distance to them, -(phi(x) - mu)^T S^{-1} (phi(x) - mu)
    """

    features: Features
    exemplars: Floats

    @property
    def fingerprint(self) -> str:
        return f"closeness to {len(self.exemplars)} exemplars (Frechet, Mahalanobis)"

    def set_reward(self, examples: Arrays) -> float:
        return -frechet(self.features.of(pixels(examples)), self.exemplars)

    def rewards(self, prompts: Indices, examples: Arrays) -> Floats:
        apart = self.features.of(pixels(examples)) - self.exemplars.mean(axis=0)
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(self.exemplars.T)))
        return -np.einsum("nf,fg,ng->n", apart, inverse, apart)

    def prefer(self, prompts: Indices, first: Arrays, second: Arrays) -> Floats:
        return preferred(self.rewards(prompts, first) - self.rewards(prompts, second), np.inf)


@dataclass(frozen=True, eq=False)
class VendiJudge:
    """Oracle of the diversity of a set; of two single images none is the more diverse."""

    features: Features

    @property
    def fingerprint(self) -> str:
        return "Vendi diversity of a set"

    def set_reward(self, examples: Arrays) -> float:
        return vendi(self.features.of(pixels(examples)))

    def prefer(self, prompts: Indices, first: Arrays, second: Arrays) -> Floats:
        raise ValueError(
            "diversity is of sets, and two single images cannot be compared by it; choose a method that splits sets, "
            "such as dragon"
        )


def pixels(examples: Arrays) -> npt.NDArray[np.float32]:
    """[N, C, H, W] the images of examples."""
    return np.asarray(examples[IMAGE], dtype=np.float32)
