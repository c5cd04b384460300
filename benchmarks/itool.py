"""iTool end to end on the package's small world of tools: what the warm-up gains, and what the rounds of pairs add.

python benchmarks/itool.py [--method itool] [--seeds 5] [--rounds 3] [--set NAME=VALUE ...]

What counts is the mean share of samples whose calls are exactly right, on held-out requests, all and those of three
calls: before, after the easy-to-hard warm-up, and after the rounds. Set before the first run: a part gains where the
95 % t-interval over seeds of after less before lies above 0.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import HERE, command, machine, table, told, versions

import equipoise as eq
from equipoise import oracles
from equipoise.claims.claim import interval
from equipoise.playground.worlds import world_folder
from equipoise.run.config import parse_settings

WARM_UP = "phases/sft_easy_to_hard"
PLACES = {"before": f"{WARM_UP}/rounds/000", "warm": "rounds/000"}


def exactness(stage: Path) -> tuple[float, float]:
    """(of all samples, of those to requests of three calls): the share whose calls are exactly right."""
    own = stage / "evaluation-policy.parquet"  # the start is its own reference, and was sampled once
    rows = pq.read_table(own if own.exists() else stage / "evaluation-reference.parquet").to_pydict()
    prompts = [
        json.loads(c) for c, group in zip(rows["context"], rows["responses"], strict=True) for _ in group
    ]
    texts = [response["text"] for group in rows["responses"] for response in group]
    right = oracles.load(str(world_folder("tools") / "exact.yaml")).score(prompts, texts).numpy()
    hard = np.array([prompt.count(" and ") == 2 for prompt in prompts])
    return float(right.mean()), float(right[hard].mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="itool")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[])
    given = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*PLACES, "after")}
    settings = {**parse_settings(given.set), "evaluate.every": given.rounds}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            eq.align(given.method, out=out, seed=seed, rounds=given.rounds, settings=settings, quiet=True)
            for name, place in {**PLACES, "after": f"rounds/{given.rounds:03d}"}.items():
                found[name].append(exactness(out / place))
        print(seed, {name: values[-1] for name, values in found.items()}, flush=True)
    values = {name: np.array(rows) for name, rows in found.items()}
    rows, gains = [], {}
    for place, which in enumerate(("all", "three calls")):
        for what, first, last in (("warm-up", "before", "warm"), ("rounds", "warm", "after")):
            gain = [float(g[0]) for g in interval((values[last] - values[first])[:, place : place + 1])]
            gains[f"{what}, {which}"] = gain
            means = [f"{values[name][:, place].mean():.3f}" for name in (first, last)]
            rows.append([f"{what}, {which}", *means, *(f"{g:+.3f}" for g in gain)])
    about: dict[str, Any] = {
        "command": command("itool.py"),
        "machine": machine(),
        "versions": versions("transformers"),
    }
    kept = {"exact": found, "gains": gains, **about}
    (HERE / "results" / f"{given.method}.json").write_text(json.dumps(kept, indent=1) + "\n")
    print(told(about), *table(["", "from", "to", "gain", "low", "high"], rows), sep="\n")


if __name__ == "__main__":
    main()
