"""The playground's ladder at equal passes and matched temperature: DPO, SPAC and INPO over seeds.

    python benchmarks/ladder.py run [--seeds 101 102 103 104 105] [--minutes 60]
    python benchmarks/ladder.py table --write

Three re-anchored rounds divide a pair loss's temperature by three, and SPAC makes three times the demo's passes of a
round: so DPO is also run with SPAC's passes and optimizer at a third of its own beta. Every run is one line of
results/ladder.jsonl; known ones are read back. --minutes stops before the next run would begin. Figures are exact, on
held-out requests.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import HERE, command, cpu, table, versions, write_section

from equipoise.run.session import align

FOUND = HERE / "results" / "ladder.jsonl"
SEEDS = (101, 102, 103, 104, 105)
# name -> (method, settings)
RUNGS: dict[str, tuple[str, dict[str, Any]]] = {
    "DPO, the demo's": ("dpo", {}),
    "DPO, SPAC's passes and rate, beta / 3": (
        "dpo",
        {"train.epochs": 9, "train.lr": 2e-3, "train.eps": 1e-2, "objective.beta": 0.5 / 3},
    ),
    "SPAC": ("spac", {}),
    "INPO": ("inpo", {}),
}


def run(method: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """One run in a folder of its own that is thrown away; what its last evaluation says."""
    with tempfile.TemporaryDirectory() as folder:
        made = align(method, seed=seed, out=Path(folder) / "run", settings=settings, quiet=True)
        last = json.loads((made.folder / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        steps = len((made.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    names = ("exact_win_rate", "exploitability", "exact_kl", "outside")
    return {name: last[name] for name in names} | {"steps": steps}


def known() -> dict[tuple[str, int], dict[str, Any]]:
    lines = FOUND.read_text(encoding="utf-8").splitlines() if FOUND.exists() else []
    return {(line["rung"], line["seed"]): line for line in map(json.loads, lines)}


def measure(seeds: list[int], minutes: float) -> None:
    begin, longest, done = time.monotonic(), 0.0, known()
    for seed in seeds:
        for rung, (method, settings) in RUNGS.items():
            started = time.monotonic()
            if (rung, seed) in done:
                continue
            if started + longest > begin + 60 * minutes:
                return
            found = {"rung": rung, "seed": seed, **run(method, settings, seed)}
            longest = max(longest, time.monotonic() - started)
            with FOUND.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)


def spread(lines: list[dict[str, Any]], name: str, shown: str) -> str:
    values = [line[name] for line in lines]
    return f"{median(values):{shown}} ({min(values):{shown}} to {max(values):{shown}})"


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    asked = parser.parse_args()
    if asked.what == "run":
        measure(asked.seeds, asked.minutes)
        return
    rows = []
    for rung in RUNGS:
        lines = [line for (name, _), line in known().items() if name == rung]
        if lines:
            figures = [
                ("exact_win_rate", ".1%"),
                ("exploitability", ".3f"),
                ("exact_kl", ".2f"),
                ("outside", ".1%"),
            ]
            spreads = [spread(lines, name, shown) for name, shown in figures]
            rows.append([rung, str(len(lines)), f"{median(line['steps'] for line in lines):.0f}", *spreads])
    header = ("run", "seeds", "steps", "win rate", "exploitability", "KL, nats", "outside the grammar")
    made_of = ", ".join(f"{name} {v}" for name, v in versions().items())
    about = f"Median (range). {cpu()}, one thread; {made_of}. `{command('ladder.py')}`."
    text = "\n".join([about, "", *table(header, rows)])
    print(text)
    if asked.write:
        write_section(text, "ladder.py")


if __name__ == "__main__":
    main()
