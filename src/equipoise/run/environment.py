"""Environment of a run: software and hardware of every process that worked on it (environment.json)."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from equipoise.policy.files import write_json

FILE = "environment.json"
VERSIONED = ("equipoise", "torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "safetensors")


def add_process(folder: Path) -> None:
    """Add this process to those that have worked on the run, oldest first; a damaged file is begun again."""
    try:
        stored = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError):
        stored = []
    write_json(folder / FILE, [*(stored if isinstance(stored, list) else [stored]), _process()])


def _process() -> dict[str, Any]:
    """Without environment variables, which may contain secrets."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": {name: version(name) for name in VERSIONED},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "command": sys.argv,
    }
