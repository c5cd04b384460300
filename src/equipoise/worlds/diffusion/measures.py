"""What a denoiser is worth: its samples' reward, a classifier's confidence in them, and distances of whole sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equipoise.core.intervals import Interval, clustered_mean, jackknife
from equipoise.play.seeds import Seeds
from equipoise.play.state import Floats
from equipoise.worlds.diffusion.oracles import Classifier
from equipoise.worlds.diffusion.score import DdimSampler
from equipoise.worlds.diffusion.sets import Features, frechet, pixels, vendi
from equipoise.worlds.scored.task import Parameters

REWARD, CONFIDENCE, FRECHET, VENDI = "reward", "confidence", "frechet", "vendi"
UPWARDS = {REWARD: True, CONFIDENCE: True, FRECHET: False, VENDI: True}  # whether higher is better


@dataclass(frozen=True, kw_only=True)
class SampleMeasures:
    """Measures of `samples` images from fixed noise, the same for every policy, with 95 % intervals over the images.

    reward       mean reward of the oracle, where it rewards single images
    confidence   mean largest class probability, where there is a classifier
    frechet      Frechet distance to the data, or to an oracle's exemplars, in `features`; biased upwards by 1/samples
    vendi        effective number of different samples in `features`

    first        the measure that the oracle rewards.
    """

    sampler: DdimSampler
    features: Features
    data: Floats
    reward: Callable[[npt.NDArray[np.float32]], Floats] | None = None
    classifier: Classifier | None = None
    samples: int = 256
    first: str = REWARD

    def __post_init__(self) -> None:
        if self.samples < 20:
            raise ValueError(f"distances of sets need 20 samples or more, got {self.samples}")

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        known = {REWARD: self.reward is not None, CONFIDENCE: self.classifier is not None}
        order = sorted(UPWARDS, key=lambda name: name != self.first)
        return {name: UPWARDS[name] for name in order if known.get(name, True)}

    def images(self, parameters: Parameters, seed: int, count: int | None = None) -> npt.NDArray[np.float32]:
        """A policy's images from the noise that a seed draws."""
        nothing = np.zeros(count or self.samples, dtype=np.intp)
        return pixels(self.sampler.sample(parameters, nothing, Seeds(seed)("evaluation noise")))

    def measure(self, parameters: Parameters, seed: int) -> Mapping[str, Interval]:
        return self.of(self.images(parameters, seed))

    def of(self, images: npt.NDArray[np.float32]) -> dict[str, Interval]:
        """The measures of images [N, C, H, W]."""
        each = np.arange(len(images))
        features = self.features.of(images)
        found: dict[str, Interval] = {}
        if self.reward is not None:
            found[REWARD] = clustered_mean(self.reward(images), each)
        if self.classifier is not None:
            found[CONFIDENCE] = clustered_mean(self.classifier.confidence(images), each)
        found[FRECHET] = jackknife(lambda rows: frechet(features[rows], self.data), each)
        found[VENDI] = jackknife(lambda rows: vendi(features[rows]), each)
        return {name: found[name] for name in self.higher_is_better}
