"""One model in memory: it holds one checkpoint's weights at a time, and meets other policies by reading theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.worlds.random_direction import shift


@dataclass
class HeldModel:
    """The model, and the checkpoint whose weights it holds; None before the first."""

    policy: CausalPolicy
    held: Path | None = None

    def hold(self, folder: Path) -> None:
        """Hold a checkpoint's weights from now on."""
        if self.held != folder:
            checkpoint.load_into(self.policy, folder)
            self.held = folder

    @contextmanager
    def playing(self, folder: Path) -> Iterator[CausalPolicy]:
        """Context manager: temporarily hold another checkpoint's weights."""
        assert self.held is not None
        with checkpoint.temporary_weights(self.policy, folder, self.held):
            yield self.policy

    def shift(self, scale: float, seed: int, block: int) -> None:
        """theta + scale v for the weights in memory, v the unit direction of that seed (`worlds.random_direction`)."""
        shift([parameter for _, parameter in self.policy.parameters()], scale, seed, block)
