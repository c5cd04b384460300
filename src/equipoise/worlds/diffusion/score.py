"""Score of images under a diffusion model: minus half a denoising error, with shared noise and levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from equipoise.worlds.diffusion.images import IMAGE
from equipoise.worlds.diffusion.schedule import Schedule
from equipoise.worlds.diffusion.unet import UNet
from equipoise.worlds.scored.examples import Array, Indices
from equipoise.worlds.scored.task import Draw, Parameters

Noise = Literal["random", "inversion"]
Space = Literal["pixel", "encoder"]


@dataclass(frozen=True, kw_only=True)
class DenoisingScore:
    """Score of an image under a denoiser: minus half its denoising error at one noise level.

        S(x) = -1/2 e(x),    e(x) = mean over pixels of ( eps - eps_theta(x_t, t) )^2

    so that DPO's margin is Diffusion-DPO's: beta [log-ratio(x_w) - log-ratio(x_l)] = -(beta/2) (d_w - d_l) with
    d = e_theta - e_ref (Wallace et al. 2023, 2311.12908; sharing, halves and means as in the authors' code).

    noise    "random"      t uniform, eps ~ N(0, I), both shared by the images of a comparison; with `shared` off each
                           image draws its own
             "inversion"   x_t is the DDIM inversion of x under the policy that is trained, without gradient, on a grid
                           of `steps` levels with eta of DDIM's noise; eps = (x_t - sqrt(abar_t) x)/sqrt(1 - abar_t);
                           one t for all comparisons of a step (DDIM-InPO, 2503.18454, the authors' code)
    space    "pixel"       e as above
             "encoder"     e(x) = mean over features of ( f(g(eps_theta)) - f(g(eps)) )^2: g is one DDPM step down with
                           a z that all images share, f the down-sampling half of the frozen denoiser `encoder` at level
                           t - 1 (NCP-DPO, 2406.17636, the paper's text; sharing z is derived)

    The policy and its frozen twins are scored with the same t, eps, x_t and z, which the draw addresses. Inverted noise
    is not of unit variance, and is not renormalised.

    Raises ValueError for the encoder's space without an encoder.
    """

    unet: UNet
    schedule: Schedule = field(default_factory=Schedule)
    noise: Noise = "random"
    space: Space = "pixel"
    encoder: Parameters | None = None
    shared: bool = True
    steps: int = 10
    eta: float = 0.1
    fresh: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.space == "encoder" and self.encoder is None:
            raise ValueError("errors in an encoder's space need the encoder's parameters")

    def __call__(
        self, parameters: Parameters, examples: Mapping[str, Tensor], prompts: Tensor, draw: Draw
    ) -> Tensor:
        images = examples[IMAGE]
        by = parameters if draw.policy is None else draw.policy
        forward = draw.once("forward noise", lambda: self.forward(by, images, draw.generator()))
        return -0.5 * self.errors(parameters, forward)

    def lengths(self, examples: Mapping[str, Tensor]) -> Tensor:
        return torch.ones(examples[IMAGE].shape[:2])

    @torch.no_grad()
    def forward(self, parameters: Parameters, images: Tensor, draw: torch.Generator) -> Forward:
        """Levels, noise and noised images of comparisons [B, K, C, H, W], drawn or by inversion under a policy."""
        count, width, *pixels = images.shape
        columns = 1 if self.shared else width
        first = 0 if self.space == "pixel" and self.noise == "random" else 1
        flat = images.flatten(end_dim=1)
        if self.noise == "inversion":
            top = int(torch.randint(first, self.schedule.levels, (), generator=draw))
            levels = torch.full((count, width), top)
            noised = self.schedule.inverted(
                lambda x, t: self.unet.predict(parameters, x, t),
                flat,
                top,
                self.steps,
                eta=self.eta,
                draw=draw,
            )
            noise = self.schedule.noise_of(flat, noised, levels.flatten())
        else:
            drawn = torch.randint(first, self.schedule.levels, (count, columns), generator=draw)
            levels = drawn.expand(count, width)
            fresh = torch.randn((count, columns, *pixels), generator=draw, dtype=images.dtype)
            noise = fresh.expand_as(images).flatten(end_dim=1)
            noised = self.schedule.noised(flat, noise, levels.flatten())
        step = torch.randn((count, 1, *pixels), generator=draw, dtype=images.dtype).expand_as(images)
        return Forward(levels, noise, noised, step.flatten(end_dim=1))

    def errors(self, parameters: Parameters, forward: Forward) -> Tensor:
        """[B, K] denoising errors e; carries the parameters' gradient."""
        levels = forward.levels.flatten()
        predicted = self.unet.predict(parameters, forward.noised, levels)
        apart = (
            predicted - forward.noise
            if self.space == "pixel"
            else self.perceived(forward, predicted) - self.perceived(forward, forward.noise)
        )
        return apart.square().flatten(start_dim=1).mean(dim=1).reshape(forward.levels.shape)

    def perceived(self, forward: Forward, noise: Tensor) -> Tensor:
        """[B K, F] features f(g(eps)) of the image one DDPM step below, had `noise` been predicted."""
        assert self.encoder is not None
        levels = forward.levels.flatten()
        below = self.schedule.reversed_step(forward.noised, noise, forward.step, levels)
        return self.unet.features(self.encoder, below, levels - 1)


@dataclass(frozen=True, eq=False)
class Forward:
    """What noises the images of B comparisons of K: the same for a policy and its frozen twins.

    levels   [B, K] noise level t.
    noise    [B K, C, H, W] the noise to be predicted.
    noised   [B K, C, H, W] x_t.
    step     [B K, C, H, W] z of a reverse step, equal within a comparison.
    """

    levels: Tensor
    noise: Tensor
    noised: Tensor
    step: Tensor


@dataclass(frozen=True, kw_only=True)
class DdimSampler:
    """A denoiser's own images by deterministic DDIM, from noise that a seed draws.

    steps   of the grid of levels.
    """

    unet: UNet
    schedule: Schedule = field(default_factory=Schedule)
    steps: int = 20

    def sample(self, parameters: Parameters, prompts: Indices, seed: int) -> dict[str, Array]:
        draw = torch.Generator().manual_seed(seed)
        shape = (len(prompts), self.unet.channels, self.unet.size, self.unet.size)
        noise = torch.randn(shape, generator=draw)
        made = self.schedule.sampled(lambda x, t: self.unet.predict(parameters, x, t), noise, self.steps)
        return {IMAGE: made.numpy()}
