"""A small U-Net that predicts noise, as a function of plain tensors; 160,000 parameters for grey images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate, silu

GROUPS = 8
PERIOD = 10_000.0  # of the slowest sinusoid of a noise level


class Residual(nn.Module):
    """Two convolutions with group norms; the embedded noise level shifts what is between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv_out = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shift = nn.Linear(embedding, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        hidden = self.conv_in(silu(self.norm_in(x))) + self.shift(silu(level))[:, :, None, None]
        made: Tensor = self.skip(x) + self.conv_out(silu(self.norm_out(hidden)))
        return made


class Network(nn.Module):
    """Two resolutions, a residual block each way at both, and two between them."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        deep, embedding = 2 * width, 4 * width
        self.width = width
        self.embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.down_fine = Residual(width, width, embedding)
        self.shrink = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.down_coarse = Residual(width, deep, embedding)
        self.middle = nn.ModuleList([Residual(deep, deep, embedding), Residual(deep, deep, embedding)])
        self.up_coarse = nn.ModuleList(
            [Residual(2 * deep, deep, embedding), Residual(deep + width, deep, embedding)]
        )
        self.grow = nn.Conv2d(deep, deep, 3, padding=1)
        self.up_fine = nn.ModuleList(
            [Residual(deep + width, width, embedding), Residual(2 * width, width, embedding)]
        )
        self.norm = nn.GroupNorm(GROUPS, width)
        self.leave = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, images: Tensor, levels: Tensor, half: bool = False) -> Tensor:
        """Predicted noise [B, C, H, W]; with `half`, the coarsest features of the way down, [B, 2 width, H/2, W/2]."""
        level = self.embed(sinusoids(levels, self.width).to(images))
        first = self.enter(images)
        fine = self.down_fine(first, level)
        small = self.shrink(fine)
        coarse: Tensor = self.down_coarse(small, level)
        if half:
            return coarse
        x = coarse
        for block in self.middle:
            x = block(x, level)
        for block, passed in zip(self.up_coarse, (coarse, small), strict=True):
            x = block(torch.cat([x, passed], dim=1), level)
        x = self.grow(interpolate(x, scale_factor=2.0, mode="nearest"))
        for block, passed in zip(self.up_fine, (fine, first), strict=True):
            x = block(torch.cat([x, passed], dim=1), level)
        made: Tensor = self.leave(silu(self.norm(x)))
        return made


def sinusoids(levels: Tensor, width: int) -> Tensor:
    """[B, width] sines and cosines of noise levels [B], at periods from 2 pi to about `PERIOD` times that."""
    rates = torch.exp(-math.log(PERIOD) * torch.arange(width // 2) / (width // 2))
    angles = levels[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@dataclass(frozen=True)
class UNet:
    """A denoiser: predicted noise of images at noise levels, under parameters that are passed to every call.

    channels, size   of an image; the size is even.
    width            channels at full resolution, a multiple of 8; the coarse ones are twice as many.
    """

    channels: int = 1
    size: int = 8
    width: int = 16

    def __post_init__(self) -> None:
        if self.size % 2 or self.size < 4:
            raise ValueError(f"images must be squares of an even size, at least 4, got {self.size}")
        if self.width % GROUPS or self.width <= 0:
            raise ValueError(f"the width must be a multiple of {GROUPS}, got {self.width}")

    @cached_property
    def _network(self) -> Network:
        with torch.device("meta"):
            return Network(self.channels, self.width)

    def start(self, seed: int) -> dict[str, Tensor]:
        """Parameters at random, drawn from a seed; the last convolution is 0."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = Network(self.channels, self.width)
        with torch.no_grad():
            made.leave.weight.zero_()
        return {name: value.detach().clone() for name, value in made.named_parameters()}

    def predict(self, parameters: Mapping[str, Tensor], images: Tensor, levels: Tensor) -> Tensor:
        """Predicted noise [B, C, H, W] of images [B, C, H, W] at levels [B]; carries the gradient of both."""
        made: Tensor = functional_call(self._network, dict(parameters), (images, levels))
        return made

    def features(self, parameters: Mapping[str, Tensor], images: Tensor, levels: Tensor) -> Tensor:
        """Features [B, F] of the down-sampling half."""
        made: Tensor = functional_call(self._network, dict(parameters), (images, levels, True))
        return made.flatten(start_dim=1)
