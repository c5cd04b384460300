"""The single model in memory, which loads the weights of one checkpoint at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.worlds.random_direction import shift


@dataclass
class HeldModel:
    """The model, and the checkpoint that is loaded (None before the first).

    verify    raises ValueError for a checkpoint that is not as it was written; called before one is read.
    """

    policy: CausalPolicy
    held: Path | None = None
    verify: Callable[[Path], None] = lambda folder: None

    def read(self, folder: Path) -> None:
        """Load a checkpoint's weights, whatever `held` says. Raises ValueError or ModelError for a damaged one."""
        self.verify(folder)
        checkpoint.load_into(self.policy, folder)

    def hold(self, folder: Path) -> None:
        """Load a checkpoint's weights and keep them."""
        if self.held != folder:
            self.read(folder)
            self.held = folder

    @contextmanager
    def playing(self, folder: Path) -> Iterator[CausalPolicy]:
        """Context manager: temporarily load another checkpoint's weights."""
        assert self.held is not None
        self.verify(folder)
        with checkpoint.temporary_weights(self.policy, folder, self.held):
            yield self.policy

    def shift(self, scale: float, seed: int, block: int) -> None:
        """Perturb the weights in memory by scale v, v the unit direction of the seed (`worlds.random_direction`)."""
        shift([parameter for _, parameter in self.policy.parameters()], scale, seed, block)
