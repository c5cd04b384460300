"""A script run by one process and by two, on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def by_one_and_by_two(script: Path, folder: Path, *arguments: str) -> None:
    """The script by one process with folder/1 as its first argument, then by two with folder/2."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
    }
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for count, how in (("1", []), ("2", launch)):
        done = subprocess.run(
            [
                sys.executable,
                *how,
                str(script),
                str(folder / count),
                *arguments,
            ],
            check=False,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
