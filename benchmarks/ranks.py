"""What two processes gain on two cores: a round of INPO, phase by phase, with one process and with two.

python benchmarks/ranks.py MODEL PROMPTS [--oracle ORACLE] [--prompts 16] [--tokens 24] [--repeats 1]

Whole commands in turn, `equipoise launch --processes N align inpo`, one thread for each process; the phases are those
of the run folder's timings.jsonl. The texts of both are compared. Times mean something where nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import HERE, command, machine, table, told, versions, write_section

RESULTS = HERE / "results" / "ranks.json"
PROCESSES = (1, 2)
PHASES = ("sampling", "judging", "anchors", "training", "evaluating")


def play(given: argparse.Namespace, processes: int, out: Path) -> dict[str, float]:
    """Seconds of each phase of a run."""
    settings = [
        f"data.limit={given.prompts}",
        "data.held_out=0.5",
        f"sampling.max_new_tokens={given.tokens}",
        "play.samples=4",
        f"evaluate.prompts={given.prompts}",
        "evaluate.samples=4",
        *("train.epochs=1", "train.lr=1e-6", "train.batch=8"),
    ]
    options = ["--model", given.model, "--data", given.data, "--oracle", given.oracle, "--rounds", "1"]
    launch = [sys.executable, "-m", "equipoise", "launch", "--processes", str(processes)]
    # a policy that leaves its reference's support ends its run with code 3, and was timed all the same
    done = subprocess.run(
        [*launch, "align", "inpo", *options, "--out", str(out), "--set", *settings],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if not (out / "timings.jsonl").exists():
        raise SystemExit(done.stderr)
    seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
    for line in map(json.loads, (out / "timings.jsonl").read_text(encoding="utf-8").splitlines()):
        if line["phase"] in seconds:
            seconds[line["phase"]] += line["seconds"]
    return seconds


def texts(out: Path) -> dict[str, list[str]]:
    """What was written by round and stage: the responses of each file of rows, in order."""
    found: dict[str, list[str]] = {}
    for path in sorted((out / "rounds").rglob("*.parquet")):
        rows = pq.read_table(path).to_pydict()
        found[f"{path.parent.name}/{path.stem}"] = [
            one["text"] for group in rows.get("responses", []) for one in group
        ]
    return found


def equal(one: dict[str, list[str]], two: dict[str, list[str]]) -> dict[str, str]:
    """Of each file: how many of its texts are the same."""
    return {
        name: f"{sum(a == b for a, b in zip(one[name], two[name], strict=True))} of {len(one[name])}"
        for name in one
    }


def report(found: dict[str, Any]) -> str:
    rows = []
    for phase in PHASES:
        one, two = (statistics.median(run[phase] for run in found["runs"][str(n)]) for n in PROCESSES)
        rows.append((phase, f"{one:.1f}", f"{two:.1f}", f"{one / two:.2f}" if two else "–"))
    same = ", ".join(f"{count} ({name})" for name, count in found["same_texts"].items())
    about = (
        f"{found['prompts']} prompts, half of them held out, 4 responses of at most {found['tokens']} tokens; "
        f"{found['repeats']} run(s) of each in turn. Equal texts by round and file: {same}."
    )
    header = ("phase", "1 process, s", "2 processes, s", "times as fast")
    return "\n".join([told(found), "", about, "", *table(header, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    found: dict[str, Any] = {
        "command": command("ranks.py"),
        "machine": machine(),
        "versions": versions("transformers", "accelerate"),
        "prompts": given.prompts,
        "tokens": given.tokens,
        "repeats": given.repeats,
        "runs": {str(n): [] for n in PROCESSES},
    }
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(given.repeats):
            for processes in PROCESSES:
                out = Path(folder) / f"{processes}-{repeat}"
                found["runs"][str(processes)].append(play(given, processes, out))
                print(processes, found["runs"][str(processes)][-1], flush=True)
        one, two = (texts(Path(folder) / f"{n}-0") for n in PROCESSES)
        found["same_texts"] = equal(one, two)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_section(report(found), "ranks.py")


if __name__ == "__main__":
    main()
