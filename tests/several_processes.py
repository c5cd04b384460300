"""A script, or a run of the playground, by one process and by two, on a CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def by_one_and_by_two(script: Path, folder: Path, *arguments: str) -> None:
    """The script by one process with folder/1 as its first argument, then by two with folder/2."""
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
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]


SETTINGS = ("play.rounds=2", "play.prompts=10", "train.epochs=1", "train.batch=4", "evaluate.prompts=5")
MORE = ("evaluate.samples=2", "save_every=1", "data.limit=40")


def command(out: Path, processes: int, method: str = "inpo", *settings: str) -> list[str]:
    """The command of a run on the playground; further settings win."""
    before = ("launch", "-n", "2") if processes == 2 else ()
    given = ("align", method, "--out", str(out), "--seed", "3", "--set", *SETTINGS, *MORE, *settings)
    return [sys.executable, "-m", "equipoise", *before, *given]


def environment() -> dict[str, str]:
    return os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }


def run(out: Path, processes: int, method: str = "inpo", *settings: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(out, processes, method, *settings),
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def killed(out: Path, rank: int, file: str, method: str = "inpo", *settings: str) -> None:
    """A run of two processes, of which one is killed as soon as a file is there."""
    process = subprocess.Popen(
        command(out, 2, method, *settings), env=environment(), stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 300
    while not (out / file).exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    os.kill(_rank(process.pid, rank), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGKILL


def _rank(launcher: int, rank: int) -> int:
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"\0LOCAL_RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text():
            return int(child)
    raise AssertionError(f"process {rank} of {launcher} is not there")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
