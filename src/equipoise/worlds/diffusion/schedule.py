"""Noise schedule of a diffusion model: forward noise, DDIM steps down and up, DDPM's reverse step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# (images [B, C, H, W], levels [B]) -> predicted noise [B, C, H, W]
Predictor = Callable[[Tensor, Tensor], Tensor]
LARGEST = 0.999  # of a level's variance


@dataclass(frozen=True)
class Schedule:
    """Cosine noise schedule of T levels (Nichol and Dhariwal 2021).

        x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,    eps ~ N(0, I),   t = 0 .. T - 1
        abar_t = prod_{s <= t} alpha_s,    alpha_s = max(f((s + 1)/T)/f(s/T), 1 - LARGEST)
        f(u) = cos^2( (u + 0.008)/1.008 pi/2 )

    levels   T >= 2.
    """

    levels: int = 1000

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ValueError(f"a noise schedule needs at least 2 levels, got {self.levels}")

    @cached_property
    def alpha(self) -> Tensor:
        """[T] alpha_t."""
        at = torch.arange(self.levels + 1, dtype=torch.float64) / self.levels
        f = torch.cos((at + 0.008) / 1.008 * math.pi / 2).square()
        return (f[1:] / f[:-1]).clamp(min=1 - LARGEST)

    @cached_property
    def kept(self) -> Tensor:
        """[T] abar_t, the share of the image's variance that is left at a level."""
        return self.alpha.cumprod(dim=0)

    def noised(self, images: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """x_t of images [B, ..., C, H, W] at levels [B]; `noise` broadcasts to the images."""
        kept = _like(self.kept[levels], images)
        return kept.sqrt() * images + (1 - kept).sqrt() * noise

    def noise_of(self, images: Tensor, noised: Tensor, levels: Tensor) -> Tensor:
        """(x_t - sqrt(abar_t) x_0)/sqrt(1 - abar_t), the inverse of `noised`."""
        kept = _like(self.kept[levels], images)
        return (noised - kept.sqrt() * images) / (1 - kept).sqrt()

    def moved(self, noised: Tensor, predicted: Tensor, begin: int, end: int, clip: bool = False) -> Tensor:
        """One deterministic DDIM step from level `begin` to level `end`, up or down; level -1 is the image itself.

            x_end = sqrt(abar_end) x_0' + sqrt(1 - abar_end) eps'
            x_0' = (x_begin - sqrt(1 - abar_begin) eps')/sqrt(abar_begin)

        clip   hold the predicted image x_0' in [-1, 1] (Song et al. 2021, eq. 12 with sigma = 0).
        """
        before, after = self._kept(begin), self._kept(end)
        image = (noised - math.sqrt(1 - before) * predicted) / math.sqrt(before)
        if clip:
            image = image.clamp(-1, 1)
        return math.sqrt(after) * image + math.sqrt(1 - after) * predicted

    def grid(self, steps: int, top: int | None = None) -> list[int]:
        """`steps` levels, descending from the highest multiple of T/steps to 0; with `top`, top and those below it."""
        apart = self.levels // steps
        levels = [apart * step for step in reversed(range(steps))]
        return levels if top is None else [top, *(level for level in levels if level < top)]

    @torch.no_grad()
    def sampled(
        self, predict: Predictor, noise: Tensor, steps: int = 20, *, top: int | None = None, clip: bool = True
    ) -> Tensor:
        """Images [B, C, H, W] by DDIM from noise, or from images at level `top`."""
        levels, at = self.grid(steps, top), noise
        for begin, end in zip(levels, [*levels[1:], -1], strict=True):
            predicted = predict(at, torch.full((len(at),), begin))
            at = self.moved(at, predicted, begin, end, clip)
        return at

    @torch.no_grad()
    def inverted(
        self,
        predict: Predictor,
        images: Tensor,
        top: int,
        steps: int = 10,
        *,
        eta: float = 0.0,
        draw: torch.Generator | None = None,
    ) -> Tensor:
        """x_top of images [B, C, H, W] by DDIM inversion: the steps of `sampled` upwards, the first one from the image.

        eta    of DDIM's standard deviation of a step, added as fresh noise; 0 is deterministic.
        """
        levels, at = [level for level in reversed(self.grid(steps, top)) if level], images
        for begin, end in zip([-1, *levels[:-1]], levels, strict=True):
            predicted = predict(at, torch.full((len(at),), max(begin, 0)))
            at = self.moved(at, predicted, begin, end)
            if eta:
                noise = torch.randn(at.shape, generator=draw, dtype=at.dtype)
                at = at + eta * self.deviation(begin, end) * noise
        return at

    def deviation(self, low: int, high: int) -> float:
        """DDIM's sigma at eta = 1 for the step from `high` down to `low`:

        sqrt( (1 - abar_low)/(1 - abar_high) (1 - abar_high/abar_low) ), 0 from any level to the image itself.
        """
        below, above = self._kept(low), self._kept(high)
        return math.sqrt((1 - below) / (1 - above) * (1 - above / below))

    def reversed_step(self, noised: Tensor, predicted: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """One DDPM step down from levels [B] >= 1, with z = `noise`:

        ( x_t - (1 - alpha_t)/sqrt(1 - abar_t) eps )/sqrt(alpha_t) + sigma_t z
        sigma_t^2 = (1 - abar_{t-1})/(1 - abar_t) (1 - alpha_t)
        """
        alpha, kept = _like(self.alpha[levels], noised), _like(self.kept[levels], noised)
        below = _like(self.kept[levels - 1], noised)
        sigma = ((1 - below) / (1 - kept) * (1 - alpha)).sqrt()
        return (noised - (1 - alpha) / (1 - kept).sqrt() * predicted) / alpha.sqrt() + sigma * noise

    def _kept(self, level: int) -> float:
        return 1.0 if level < 0 else float(self.kept[level])


def _like(values: Tensor, images: Tensor) -> Tensor:
    """Numbers of rows [B], shaped to multiply images [B, ...]."""
    return values.to(images).reshape(-1, *[1] * (images.ndim - 1))
