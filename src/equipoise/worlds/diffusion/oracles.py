"""Preference oracles of images: brightness, a classifier's confidence, similarity to a subject and a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equipoise.play.state import Floats
from equipoise.worlds.diffusion.images import IMAGE, Images, scikit_learn
from equipoise.worlds.scored.examples import Arrays, Indices

Reward = Callable[[npt.NDArray[np.float32]], Floats]  # images [N, C, H, W] -> [N], higher is better


@dataclass(frozen=True)
class RewardJudge:
    """P(first beats second) = sigma( k (r(first) - r(second)) ).

    rationality   k > 0; infinite: the higher reward wins, and equal ones are a tie.
    """

    name: str
    reward: Reward
    rationality: float = np.inf

    def __post_init__(self) -> None:
        if not self.rationality > 0:
            raise ValueError(f"rationality must be positive, got {self.rationality!r}")

    @property
    def fingerprint(self) -> str:
        return f"images by {self.name}, rationality {self.rationality:g}"

    def rewards(self, prompts: Indices, examples: Arrays) -> Floats:
        return self.reward(np.asarray(examples[IMAGE], dtype=np.float32))

    def prefer(self, prompts: Indices, first: Arrays, second: Arrays) -> Floats:
        return preferred(self.rewards(prompts, first) - self.rewards(prompts, second), self.rationality)


def preferred(ahead: Floats, rationality: float) -> Floats:
    """[N] probability of preferring what is `ahead` by so much reward: a logistic, or a step where k is infinite."""
    if np.isinf(rationality):
        return np.asarray((1 + np.sign(ahead)) / 2)
    return np.asarray(1 / (1 + np.exp(-np.clip(rationality * ahead, -500, 500))))


def ink(images: npt.NDArray[np.float32]) -> Floats:
    """[N] mean brightness in [0, 1]."""
    return np.asarray(brightness(images).mean(axis=1))


def brightness(images: npt.NDArray[np.float32]) -> Floats:
    """[N, C H W] pixels in [0, 1]."""
    return (images.reshape(len(images), -1).astype(np.float64) + 1) / 2


@dataclass(frozen=True, eq=False)
class Classifier:
    """Multinomial logistic regression of pixels: P(class | x) = softmax(W x + b).

    weight   [classes, pixels]    bias   [classes]
    """

    weight: Floats
    bias: Floats

    @classmethod
    def fitted(cls, images: Images) -> Classifier:
        """Fit to labelled images (scikit-learn's defaults). Raises ValueError without labels or scikit-learn."""
        if images.labels is None:
            raise ValueError("a classifier needs labelled images; these have no labels")
        model = scikit_learn("linear_model").LogisticRegression(max_iter=2000)
        model.fit(brightness(images.values), images.labels)
        weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
        if len(weight) == 1:  # two classes: one row of log-odds
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        return cls(weight, bias)

    def probabilities(self, images: npt.NDArray[np.float32]) -> Floats:
        """[N, classes]."""
        logits = brightness(images) @ self.weight.T + self.bias
        power = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(power / power.sum(axis=1, keepdims=True))

    def confidence(self, images: npt.NDArray[np.float32]) -> Floats:
        """[N] the largest class probability."""
        return np.asarray(self.probabilities(images).max(axis=1))


@dataclass(frozen=True, eq=False)
class HarmonicReward:
    """lambda-Harmonic reward: a subject's likeness and a class at once (Subject RPO, 2407.12164).

        r(x) = 1 / ( lambda/s_img(x) + (1 - lambda)/s_txt(x) )
        s_img = mean over the references of (1 + cos(x, reference))/2,    s_txt = (1 + P(class | x))/2

    A class stands for a prompt, its probability for a two-tower model's similarity of text and image.

    subject   [R, C, H, W] reference images.    share   lambda in [0, 1]: 1 is the subject alone, 0 the class alone.
    """

    subject: npt.NDArray[np.float32]
    classifier: Classifier
    target: int
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"lambda must lie in [0, 1], got {self.share!r}")
        if not 0 <= self.target < len(self.classifier.bias):
            raise ValueError(f"class {self.target} is none of the {len(self.classifier.bias)} classes")

    def __call__(self, images: npt.NDArray[np.float32]) -> Floats:
        return harmonic(self.likeness(images), self.alignment(images), self.share)

    def likeness(self, images: npt.NDArray[np.float32]) -> Floats:
        """[N] s_img."""
        a, b = _unit(brightness(images)), _unit(brightness(self.subject))
        return np.asarray((1 + a @ b.T).mean(axis=1) / 2)

    def alignment(self, images: npt.NDArray[np.float32]) -> Floats:
        """[N] s_txt."""
        return np.asarray((1 + self.classifier.probabilities(images)[:, self.target]) / 2)


def harmonic(first: Floats, second: Floats, share: float) -> Floats:
    """Weighted harmonic mean 1/(share/first + (1 - share)/second) of positive numbers; a share of 0 or 1 is exact."""
    if share in (0.0, 1.0):
        return first if share else second
    with np.errstate(divide="ignore"):
        return np.asarray(1 / (share / first + (1 - share) / second))


def _unit(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
