"""Where an oracle's own models run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an oracle's own models run: on the run's device and in its dtype unless the oracle says otherwise.

    device  a torch device; None: the GPU if there is one
    dtype   "float32", "bfloat16", "float16"; None: as the checkpoint is stored
    tokens  most padded tokens of one batch
    folder  where an oracle may keep files of its own; None: the folder of the verdicts
    """

    device: str | None = None
    dtype: str | None = "float32"
    tokens: int = 8192
    folder: Path | None = None
