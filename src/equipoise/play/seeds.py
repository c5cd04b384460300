"""Named random seeds: every draw of a run is addressed by name."""

from __future__ import annotations

import hashlib
import json

import numpy as np


class Seeds:
    """Seeds addressed by name; there is no generator state to save or lose.

    `seeds(...)` is a 63-bit integer that depends only on the run's seed and the given names.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, *names: str | int) -> int:
        digest = hashlib.blake2b(json.dumps([self.seed, *names]).encode(), digest_size=8)
        return int.from_bytes(digest.digest(), "little") >> 1

    def generator(self, *names: str | int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(self(*names)))
