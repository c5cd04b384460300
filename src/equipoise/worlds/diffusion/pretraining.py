"""Pre-training of a denoiser on images, kept in a cache folder of the user."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from equipoise.policy.files import read_tensors, write_tensors
from equipoise.worlds.diffusion.schedule import Schedule
from equipoise.worlds.diffusion.unet import UNet

RECIPE = 1  # raised when the same settings would train another denoiser
CACHE = "EQUIPOISE_CACHE"


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Denoising of noised images by least squares: AdamW, its rate falling linearly to 0.

        E || eps - eps_theta(x_t, t) ||^2,    t uniform, eps ~ N(0, I)

    steps   optimizer steps of `batch` images each, at the peak rate `lr`.
    """

    steps: int = 2500
    batch: int = 64
    lr: float = 2e-3
    seed: int = 0


def pretrained(
    unet: UNet,
    schedule: Schedule,
    images: Tensor,
    settings: Pretraining,
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, Tensor]:
    """A denoiser's parameters, trained at its first use and read from the cache later.

    The file's name is the hash of everything that decides them; the folder is `EQUIPOISE_CACHE`, or the user's own
    cache folder.
    """
    key = sha256(images.numpy().tobytes())
    key.update(repr((RECIPE, asdict(unet), asdict(schedule), asdict(settings), torch.__version__)).encode())
    path = cache_folder() / "denoisers" / f"{key.hexdigest()[:32]}.safetensors"
    if path.exists():
        return read_tensors(path)[0]
    told(f"pre-training a denoiser on {len(images)} images ({settings.steps} steps; kept as {path})")
    made = train(unet, schedule, images, settings)
    write_tensors(path, made)
    return made


def cache_folder() -> Path:
    """Where what can be made again is kept."""
    if named := os.environ.get(CACHE):
        return Path(named)
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "equipoise"


def train(unet: UNet, schedule: Schedule, images: Tensor, settings: Pretraining) -> dict[str, Tensor]:
    """Train a denoiser from a seed on one thread: the same bytes each time on one kind of machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them slow small convolutions down, and change the order of sums
    try:
        return _train(unet, schedule, images, settings)
    finally:
        torch.set_num_threads(threads)


def _train(unet: UNet, schedule: Schedule, images: Tensor, settings: Pretraining) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(settings.seed)
    parameters = {name: value.requires_grad_() for name, value in unet.start(settings.seed).items()}
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=settings.lr)
    for step in range(settings.steps):
        optimizer.param_groups[0]["lr"] = settings.lr * (1 - step / settings.steps)
        chosen = images[torch.randint(len(images), (settings.batch,), generator=draw)]
        loss = denoising_error(unet, schedule, parameters, chosen, draw).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return {name: value.detach() for name, value in parameters.items()}


def denoising_error(
    unet: UNet, schedule: Schedule, parameters: Mapping[str, Tensor], images: Tensor, draw: torch.Generator
) -> Tensor:
    """[B] mean over pixels of (eps - eps_theta(x_t, t))^2 at a random level and noise for each image."""
    levels = torch.randint(schedule.levels, (len(images),), generator=draw)
    noise = torch.randn(images.shape, generator=draw)
    predicted = unet.predict(parameters, schedule.noised(images, noise, levels), levels)
    return (noise - predicted).square().flatten(start_dim=1).mean(dim=1)
