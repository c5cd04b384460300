"""Repeats one run on a busy machine, uninterrupted and killed, and counts the different sets of bytes it leaves.

    python benchmarks/repeat_runs.py --runs 20 --killed 6 --threads 2
    python benchmarks/repeat_runs.py --runs 4 --killed 2 --threads 2 --processes 2

Runs are two rounds of INPO on the playground. `--load` programs compute beside them, and `--parallel` runs at a time do
so to each other. A killed run gets SIGKILL, all its processes at once, when it has logged so many optimizer steps (a
different number for each), and is resumed by the same command. Compared is every file of the run folder but those that
hold times or the environment. Exit status 1 if there is more than one set.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

COMMAND = ["align", "inpo", "--seed", "7", "--rounds", "2"]
SETTINGS = {
    "data.pairs": 320,
    "play.prompts": 16,
    "evaluate.prompts": 4,
    "evaluate.samples": 2,
    "evaluate.pairs": 16,
    "train.save_every": 2,
}
STEPS = 20  # optimizer steps of the two rounds
TIMED = {
    "timings.jsonl",
    "manifest.jsonl",
    "judging.jsonl",
    "environment.json",
    "summary.json",
    "report.html",
    "phases.png",
    ".lock",
}
BUSY = "while True: sum(range(100_000))"


def command(out: Path, processes: int) -> list[str]:
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    return [
        sys.executable,
        *(several if processes > 1 else []),
        *("-m", "equipoise", *COMMAND, "--out", str(out)),
        *itertools.chain.from_iterable(("--set", setting) for setting in settings),
    ]


def run(out: Path, threads: int, processes: int, kill_after: int | None) -> tuple[int, float, float]:
    """Play once, from wherever the folder stands: (optimizer steps logged, wall seconds, CPU seconds)."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    began, used = time.monotonic(), os.times()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            command(out, processes), env=environment, start_new_session=True, stdout=said, stderr=said
        )
        while child.poll() is None:
            if kill_after is not None and steps(out) >= kill_after:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            time.sleep(0.02)
        if child.returncode and kill_after is None:
            said.seek(0)
            raise SystemExit(f"a run failed:\n{said.read().decode()[-3000:]}")
    spent = os.times()
    cpu = spent.children_user + spent.children_system - used.children_user - used.children_system
    return steps(out), time.monotonic() - began, cpu


def steps(out: Path) -> int:
    metrics = out / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def contents(out: Path) -> dict[str, str]:
    """Hash of each file of a run folder that must not depend on time."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name not in TIMED)
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@contextmanager
def load(count: int) -> Iterator[None]:
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="uninterrupted runs")
    parser.add_argument("--killed", type=int, default=0, help="runs that are killed once and resumed")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--processes", type=int, default=1, help="of each run (gloo)")
    parser.add_argument("--load", type=int, default=2, help="other programs that compute meanwhile")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    given = parser.parse_args()

    def one(number: int, folder: Path) -> tuple[str, dict[str, str]]:
        out, kill = folder / f"{number:03d}", number - given.runs
        told = ""
        if kill >= 0:
            point = 1 + (STEPS - 2) * kill // max(1, given.killed - 1)
            at, _, _ = run(out, given.threads, given.processes, point)
            told = f", killed after step {at} of {STEPS}"
        _, seconds, cpu = run(out, given.threads, given.processes, None)
        cost = f", {cpu:.1f} s of CPU" if given.parallel == 1 else ""
        print(f"run {number:3d}: {seconds:.1f} s{cost}{told}", flush=True)
        return f"run {number}{told}", contents(out)

    with tempfile.TemporaryDirectory() as temporary, load(given.load):
        folder = given.out or Path(temporary)
        with ThreadPoolExecutor(given.parallel) as pool:
            total = range(given.runs + given.killed)
            found = list(pool.map(one, total, itertools.repeat(folder)))
    sets = Counter(tuple(files.items()) for _, files in found)
    usual = dict(sets.most_common(1)[0][0])
    for name, files in found:
        other = [file for file in sorted(usual.keys() | files.keys()) if usual.get(file) != files.get(file)]
        if other:
            print(f"{name} differs in {len(other)} files, such as {', '.join(other[:3])}")
    print(
        f"{len(found)} runs of {given.processes} processes with {given.threads} threads each, {given.load} other "
        f"programs: {len(sets)} {'set' if len(sets) == 1 else 'different sets'} of bytes in {len(usual)} files"
    )
    return int(len(sets) > 1)


if __name__ == "__main__":
    raise SystemExit(main())
