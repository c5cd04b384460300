"""Representations of images by contrastive losses: one temperature, hard negatives, or a temperature for each image."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import pi

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, normalize

from equipoise.core.margins import similarities
from equipoise.core.margins.example_state import ExampleState
from equipoise.core.objectives.base import positive
from equipoise.core.objectives.label_margins import margin_loss
from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Split
from equipoise.worlds.labels.fit import Training, descending, fit
from equipoise.worlds.labels.measures import probe
from equipoise.worlds.labels.networks import mlp
from equipoise.worlds.labels.outcome import Outcome

TURN, SHIFT, ZOOM, NOISE = (
    pi / 12,
    0.15,
    0.15,
    0.05,
)  # radians, halves of a side, factor, pixels


class Encoder(nn.Module):
    """An encoder of 128 numbers, which a probe reads, and a projection to unit length, which the loss reads."""

    def __init__(self, features: int, seeds: Seeds, width: int = 128, out: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(*mlp((features, width, width), seeds("encoder")), nn.ReLU())
        self.projection = mlp((width, out), seeds("projection"))

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.projection(self.body(x)), dim=1)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """InfoNCE of two views of each image against those of the others in the batch; a linear probe reads the encoder.

    temperature   tau > 0, of similarities of unit vectors.
    hard          share of an anchor's negatives that count, its hardest ones; 1 counts all.
    own           a temperature for each image instead (iSogCLR); `temperature` and `hard` are then not read.
    shown         labelled training images of the probe, the first of a random order; all where there are fewer.

    Figures: `probe` accuracy; `uniformity` and `tolerance` of the projections of held-out images; with `own` also the
    mean temperature and, of classes of several sizes, its correlation with their frequency.

    Source: Wang and Liu 2021 (2012.09740), a detailed summary; Qiu et al. 2023 (2305.11965), the authors' code.
    """

    temperature: float = 0.5
    hard: float = 1.0
    own: similarities.OwnTemperatures | None = None
    shown: int = 200
    training: Training = field(
        default_factory=lambda: Training(
            epochs=180, batch=128, rate=1e-3, optimizer="adam", weight_decay=1e-5, decay=()
        )
    )

    def __post_init__(self) -> None:
        positive(temperature=self.temperature)
        if self.shown < 1:
            raise ValueError(f"shown must be 1 or more, got {self.shown!r}")
        if not 0 < self.hard <= 1:
            raise ValueError(f"hard is a share of the negatives in (0, 1], got {self.hard!r}")

    def run(self, split: Split, seeds: Seeds) -> Outcome:
        train, test = split.train, split.test
        if train.side is None:
            raise ValueError("contrastive learning turns and shifts images: these features are no images")
        encoder = Encoder(train.x.shape[1], seeds)
        draws = torch.Generator().manual_seed(seeds("views"))
        state = ExampleState(
            len(train),
            temperature=self.own.start if self.own else self.temperature,
            log_mean=0.0,
            velocity=0.0,
        )
        curve: list[float] = []

        def loss(index: Tensor) -> Tensor:
            images, side = train.x[index], train.side or 0
            near, negatives = two_views(*(encoder(augmented(images, side, draws)) for _ in range(2)))
            return self.loss(near, negatives, index, state)

        def after(_: int) -> None:
            with torch.no_grad():
                curve.append(similarities.uniformity(encoder(test.x)))

        fit(encoder, len(train), descending(loss), self.training, seeds, after_epoch=after)
        with torch.no_grad():
            unit, body, seen = encoder(test.x), encoder.body(test.x), encoder.body(train.x)
        rows = torch.from_numpy(seeds.generator("shown").permutation(len(train))[: self.shown])
        figures = {
            "probe": probe(seen[rows], train.y[rows], body, test.y, train.classes),
            "uniformity": similarities.uniformity(unit),
            "tolerance": similarities.tolerance(unit, test.y),
        }
        if self.own:
            taus = state.whole("temperature")
            sizes = torch.bincount(train.y, minlength=train.classes)[train.y]
            figures["temperature"] = float(taus.mean())
            if len(sizes.unique()) > 1 and len(taus.unique()) > 1:
                figures["with_frequency"] = float(np.corrcoef(taus.numpy(), sizes.numpy())[0, 1])
        tensors = encoder.state_dict() | {f"state.{name}": t for name, t in state.tensors().items()}
        return Outcome(figures=figures, curves={"uniformity": tuple(curve)}, tensors=tensors)

    def loss(self, near: Tensor, negatives: Tensor, index: Tensor, state: ExampleState) -> Tensor:
        """The mean loss of a batch, a scalar; with own temperatures the state moves first, as in the authors' code."""
        if self.own is None:
            kept = similarities.hardest(negatives, self.hard) if self.hard < 1 else None
            return margin_loss(near[:, None] - negatives, temperature=self.temperature, kept=kept).mean()
        held = state.read(index)
        tau = held["temperature"]
        log_mean = self.own.averaged(negatives, tau, held["log_mean"], held["seen"])
        slope = self.own.slope(negatives, tau, log_mean)
        moved, velocity = self.own.moved(tau, held["velocity"], slope)
        state.write(index, temperature=moved, log_mean=log_mean, velocity=velocity)
        return self.own.loss(near, negatives, tau, log_mean).mean()


def two_views(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Similarities of anchors with their positives [B] and with the other images' views [B, 2 (B - 1)].

    first, second   [B, D] unit embeddings of two views of B images.
    """
    across = first @ second.T
    others = ~torch.eye(len(first), dtype=torch.bool)
    rows = len(first)
    negatives = torch.cat([across[others].view(rows, -1), across.T[others].view(rows, -1)], dim=1)
    return across.diagonal(), negatives


def augmented(images: Tensor, side: int, draws: torch.Generator) -> Tensor:
    """Images [B, side * side] turned, zoomed, shifted at random, with pixel noise."""
    turn, zoom, down, across = (torch.rand(len(images), 4, generator=draws) * 2 - 1).T
    turn, zoom = TURN * turn, 1 + ZOOM * zoom
    cosine, sine = zoom * turn.cos(), zoom * turn.sin()
    maps = torch.stack([cosine, -sine, SHIFT * across, sine, cosine, SHIFT * down], dim=1).view(-1, 2, 3)
    grid = affine_grid(maps, [len(images), 1, side, side], align_corners=False)
    moved = grid_sample(images.view(-1, 1, side, side), grid, align_corners=False).flatten(1)
    return moved + NOISE * torch.randn(moved.shape, generator=draws)
