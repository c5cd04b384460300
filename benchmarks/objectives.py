"""Every method that trains on recorded data, for a short run on the playground: one line each.

    python benchmarks/objectives.py [--only NAME ...] [--data PAIRS.jsonl --model FOLDER] [--jobs 1]
    python benchmarks/objectives.py --table           (print the table of finished runs again)

For each method: whether its loss falls (mean of the first tenth of the steps, and of the last), accuracy on held-out
pairs against one half, change of the mean log-prob of chosen and rejected responses on them, mass outside the grammar,
KL from the reference, processor seconds of the whole command. Methods play with their own playground settings.

Runs are made in runs/benchmark-objectives and kept there: a finished one is not repeated, so the command can be stopped
and given again. The table goes to benchmarks/results/objectives.json with machine and versions; lines of methods that
are not asked for stay.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from equipoise.methods.index import METHODS
from equipoise.report.guide import need_of

HERE = Path(__file__).parent
RUNS = Path("runs/benchmark-objectives")
RESULTS = HERE / "results" / "objectives.json"
CPU = "benchmark.cpu"  # processor seconds of the whole command, in its run folder
FAILED = "failed.txt"


def offline() -> list[str]:
    """Methods that are given recorded data, of whatever kind, and ask nobody."""
    return [m.name for m in METHODS.values() if need_of(m) != "online"]


def run(name: str, inputs: list[str], folder: Path) -> None:
    if (folder / "summary.json").exists():
        return
    command = [sys.executable, "-m", "equipoise.cli", "align", name, "--out", str(folder), *inputs]
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as lines:
        child = subprocess.Popen(
            command, stdout=lines, stderr=lines, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        _, status, used = os.wait4(child.pid, 0)
    if status == 0:
        (folder / CPU).write_text(f"{used.ru_utime + used.ru_stime:.1f}\n")
    found = read(name, folder)
    print(line(found) if found else f"{name:<20} FAILED: {_last(log)}", flush=True)


def read(name: str, folder: Path) -> dict[str, Any] | None:
    """The figures of a finished run."""
    if not (folder / CPU).exists():
        return None
    steps = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    loss = [step["loss"] for step in steps if "loss" in step]
    last = json.loads((folder / "evaluation.jsonl").read_text().splitlines()[-1])
    tenth = max(1, len(loss) // 10)
    accuracy = last["accuracy"] or dict.fromkeys(("value", "low", "high"))
    return {
        "method": name,
        "loss": [sum(part) / tenth for part in (loss[:tenth], loss[-tenth:])] if loss else None,
        "accuracy": [accuracy["value"], accuracy["low"], accuracy["high"]],
        "chosen": last["chosen_log_ratio"],
        "rejected": last["rejected_log_ratio"],
        "win_rate": last["exact_win_rate"],
        "outside": last["outside"],
        "kl": last["kl"]["value"],
        "seconds": float((folder / CPU).read_text()),
    }


def line(row: dict[str, Any]) -> str:
    def figure(value: float | None, form: str) -> str:
        return "-" if value is None else f"{value:{form}}"

    first, last = row["loss"] or (None, None)
    value, low, high = row["accuracy"]
    return (
        f"{row['method']:<20} loss {figure(first, '7.3f')} to {figure(last, '7.3f')}  accuracy {figure(value, '.1%')} "
        f"({figure(low, '.1%')} to {figure(high, '.1%')})  chosen {figure(row['chosen'], '+.2f')}  "
        f"rejected {figure(row['rejected'], '+.2f')}  outside {figure(row['outside'], '.1%')}  "
        f"KL {figure(row['kl'], '.2f')}  win rate {figure(row['win_rate'], '.1%')}  {row['seconds']:.0f} s"
    )


def _last(log: Path) -> str:
    return (log.read_text().strip() or "?").splitlines()[-1]


def save(rows: Iterable[dict[str, Any]]) -> None:
    kept = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    found = {row["method"]: row for row in [*kept, *rows] if row["method"] in METHODS}
    about = {
        "command": "python benchmarks/objectives.py",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a run",
        "versions": {name: version(name) for name in ("equipoise", "torch", "transformers")},
        "rows": [found[name] for name in METHODS if name in found],
    }
    RESULTS.write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    names = options.only or offline()
    given = (("--model", options.model), ("--data", options.data))
    inputs = [part for flag, value in given if value for part in (flag, value)]
    world = RUNS / (Path(options.data).stem if options.data else "playground")
    if not options.table:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda name: run(name, inputs, world / name), names))
    rows = [row for name in names if (row := read(name, world / name))]
    if options.table:
        print("\n".join(map(line, rows)))
    if not options.data:
        save(rows)


if __name__ == "__main__":
    main()
