"""Images and a denoiser as a task: digits, or images of one's own, judged by an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from equipoise.play.seeds import Seeds
from equipoise.worlds.diffusion.images import IMAGE, Images, digits, read_images
from equipoise.worlds.diffusion.measures import FRECHET, REWARD, VENDI, SampleMeasures
from equipoise.worlds.diffusion.oracles import Classifier, HarmonicReward, Reward, RewardJudge, ink
from equipoise.worlds.diffusion.pictures import grid
from equipoise.worlds.diffusion.pretraining import Pretraining, pretrained
from equipoise.worlds.diffusion.schedule import Schedule
from equipoise.worlds.diffusion.score import DdimSampler, DenoisingScore, Noise, Space
from equipoise.worlds.diffusion.sets import Features, FrechetJudge, VendiJudge
from equipoise.worlds.diffusion.unet import UNet
from equipoise.worlds.scored.examples import Indices
from equipoise.worlds.scored.fit import Training
from equipoise.worlds.scored.task import Judge, Parameters, Recorded, Task, one_prompt

Oracle = Literal["ink", "confidence", "class", "harmonic", "exemplars", "diversity"]
NEED_LABELS = ("confidence", "class", "harmonic")
DRAWN = 64  # images of a picture
TRAINING = Training(steps=200, batch=32, lr=1e-4, schedule="constant", warmup=0.25)


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Settings of a world of images.

    images        a .npz file of images (docs/beyond_language.md) in place of scikit-learn's digits.
    oracle        what is preferred: "ink" (brightness), "confidence" (of a classifier), "class" (the probability of the
                  class `target`), "harmonic" (likeness to `references` images of that class and its probability),
                  "exemplars" (closeness to the images of `exemplars`), "diversity" (of sets).
    rationality   k of P = sigma(k difference); infinite labels without noise.
    target        class of the oracles "class" and "harmonic".
    share         lambda of the harmonic oracle, 1: the likeness alone.
    references    images of the subject.
    exemplars     classes whose images are the exemplars; of images without labels all are.
    pairs         recorded comparisons of images, labelled by the oracle, where the file records none.
    top           share of the images, the best by the oracle, that the first of each recorded pair is one of; 1: any.
    noise         forward noise of a score: "random", or "inversion" (DDIM-InPO).
    space         of the denoising error: "pixel", or "encoder" (NCP-DPO).
    sampling      DDIM steps of a sample.
    samples       images of an evaluation.
    pretraining   steps of the denoiser's pre-training, which is kept for other runs.
    width         channels of the denoiser at full resolution.
    """

    images: str | None = None
    oracle: Oracle = "ink"
    rationality: float = np.inf
    target: int = 3
    share: float = 0.5
    references: int = 4
    exemplars: tuple[int, ...] = (3, 5, 8, 9)
    pairs: int = 2000
    top: float = 1.0
    noise: Noise = "random"
    space: Space = "pixel"
    sampling: int = 20
    samples: int = 256
    pretraining: int = 2500
    width: int = 16

    def __post_init__(self) -> None:
        for name, known in (("oracle", Oracle), ("noise", Noise), ("space", Space)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(
                    f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}"
                )
        for name in ("references", "pairs", "sampling", "pretraining"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.top <= 1:
            raise ValueError(f"top must lie in (0, 1], got {self.top!r}")


@dataclass(frozen=True, eq=False)
class ImageWorld:
    """Images with a denoiser, its features and a classifier: what tasks on them share.

    base   the pre-trained denoiser.
    """

    images: Images
    unet: UNet
    schedule: Schedule
    base: Parameters = field(repr=False)
    features: Features = field(repr=False)
    classifier: Classifier | None = field(repr=False)

    @classmethod
    def of(cls, settings: ImageSettings) -> ImageWorld:
        """Read, or take scikit-learn's digits; pre-train, or read the denoiser that was kept. Raises ValueError."""
        images = read_images(Path(settings.images)) if settings.images else digits()
        unet = UNet(channels=images.values.shape[1], size=images.values.shape[2], width=settings.width)
        schedule = Schedule()
        classifier = None if images.labels is None else Classifier.fitted(images)
        lacking = settings.oracle in NEED_LABELS and classifier is None
        if lacking:
            raise ValueError(
                f"the oracle {settings.oracle} needs a classifier, and {settings.images} has no classes; choose ink, "
                "exemplars or diversity, or add the array 'classes'"
            )
        base = pretrained(
            unet, schedule, torch.from_numpy(images.values), Pretraining(steps=settings.pretraining)
        )
        return cls(images, unet, schedule, base, Features.fitted(images.values), classifier)

    def task(self, settings: ImageSettings, seed: int) -> Task:
        """The task: recorded images with labels, and the pre-trained denoiser. Raises ValueError for settings that do
        not fit the images."""
        seeds = Seeds(seed)
        judge, exemplars = self._judge(settings, seeds)
        sampler = DdimSampler(unet=self.unet, schedule=self.schedule, steps=settings.sampling)
        measures = SampleMeasures(
            sampler=sampler,
            features=self.features,
            data=self.features.of(exemplars),
            reward=judge.reward if isinstance(judge, RewardJudge) else None,
            classifier=self.classifier,
            samples=settings.samples,
            first={"exemplars": FRECHET, "diversity": VENDI}.get(settings.oracle, REWARD),
        )
        score = DenoisingScore(
            unet=self.unet,
            schedule=self.schedule,
            noise=settings.noise,
            space=settings.space,
            encoder=self.base if settings.space == "encoder" else None,
        )
        return Task(
            name="images",
            title="Images of a diffusion model",
            score=score,
            sampler=sampler,
            judge=judge,
            evaluation=measures,
            start=lambda drawn: {name: value.clone() for name, value in self.base.items()},
            recorded=self.images.recorded or self._recorded(settings, judge, seeds),
            prompts=one_prompt,
            pictures=lambda parameters, drawn: _pictures(measures, parameters, drawn),
            about={
                "denoiser": f"U-Net, {sum(p.numel() for p in self.base.values()):,} parameters",
                "labels": judge.fingerprint,
                "forward noise": settings.noise,
                "denoising error": f"in {settings.space} space",
            },
        )

    def _judge(self, settings: ImageSettings, seeds: Seeds) -> tuple[Judge, np.ndarray]:
        """The oracle, and the images that samples are compared with."""
        every = self.images.values
        if settings.oracle == "exemplars":
            chosen = self._exemplars(settings)
            return FrechetJudge(self.features, self.features.of(chosen)), chosen
        if settings.oracle == "diversity":
            return VendiJudge(self.features), every
        reward: Reward = ink
        name = str(settings.oracle)
        if settings.oracle != "ink":
            assert self.classifier is not None
            classifier, target = self.classifier, settings.target
            if not 0 <= target < self.images.classes:
                raise ValueError(f"class {target} is none of the {self.images.classes} classes of the images")
            name = name if name == "confidence" else f"{name} {target}"
            reward = classifier.confidence
            if settings.oracle == "class":
                reward = lambda images: classifier.probabilities(images)[:, target]  # noqa: E731
            elif settings.oracle == "harmonic":
                subject = every[self.subject(settings, seeds)]
                reward = HarmonicReward(subject, classifier, target, settings.share)
                name = f"{name}, lambda {settings.share:g}"
        return RewardJudge(name, reward, settings.rationality), every

    def subject(self, settings: ImageSettings, seeds: Seeds) -> Indices:
        """Indices of the subject's reference images, drawn among those of its class."""
        assert self.images.labels is not None
        known = np.flatnonzero(self.images.labels == settings.target)
        if len(known) < settings.references:
            raise ValueError(
                f"{settings.references} references of class {settings.target} were asked for, there are {len(known)}"
            )
        return seeds.generator("subject").choice(known, settings.references, replace=False)

    def _exemplars(self, settings: ImageSettings) -> np.ndarray:
        labels = self.images.labels
        if labels is None:
            return self.images.values
        chosen = np.isin(labels, settings.exemplars)
        if chosen.sum() < 2:
            raise ValueError(f"no class of the images is one of the exemplars {settings.exemplars}")
        return self.images.values[chosen]

    def _recorded(self, settings: ImageSettings, judge: Judge, seeds: Seeds) -> Recorded:
        """Pairs of different images, labelled by the oracle; a subject's first image is always a reference of it."""
        draw, count = seeds.generator("recorded pairs"), len(self.images.values)
        examples = {IMAGE: self.images.values}
        if settings.oracle == "diversity":  # of sets alone: pairs are there to be read, and say nothing
            pairs = draw.integers(count, size=(settings.pairs, 2))
            return Recorded(examples=examples, pairs=pairs, prob=np.full(settings.pairs, 0.5))
        first = np.arange(count)
        if settings.oracle == "harmonic":
            first = self.subject(settings, seeds)
        elif settings.top < 1:
            assert isinstance(judge, RewardJudge | FrechetJudge)
            worth = judge.rewards(first, examples)
            first = np.argsort(-worth, kind="stable")[: max(1, round(settings.top * count))]
        winners = draw.choice(first, settings.pairs)
        others = (winners + draw.integers(1, count, size=settings.pairs)) % count
        pairs = np.stack([winners, others], axis=1)
        one, two = ({IMAGE: self.images.values[side]} for side in pairs.T)
        prob = judge.prefer(np.zeros(settings.pairs, dtype=np.intp), one, two)
        if not np.isinf(settings.rationality):
            prob = (draw.random(len(prob)) < prob).astype(np.float64)
        return Recorded(examples=examples, pairs=pairs.astype(np.intp), prob=prob)


def _pictures(measures: SampleMeasures, parameters: Parameters, seed: int) -> Sequence[tuple[str, bytes]]:
    images = measures.images(parameters, seed, DRAWN)
    return [(f"{DRAWN} images from fixed noise", grid(images))]


def image_task(settings: ImageSettings, seed: int) -> Task:
    """The task of a world of images."""
    return ImageWorld.of(settings).task(settings, seed)


def start_of(task: Task) -> dict[str, Tensor]:
    """The pre-trained denoiser of a task."""
    return task.start(0)
