"""How good the estimates of `equipoise plan` are: predicted beside measured, for runs of tiny models.

    python benchmarks/plan.py OUT [--model FOLDER ...]

Every run is planned and then played in processes of its own; memory is the process's largest resident set, time is that
of the command. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs

RULE = "def score(prompt, response):\n    return len(response)\n"
RUNS = {
    "dpo": ["--set", "batch=16", "epochs=3"],
    "spac": ["--rounds", "2", "--set", "batch=16"],
    "inpo": ["--rounds", "2", "--set", "batch=16", "play.samples=4"],
}
COMMON = ["max_new_tokens=24", "evaluate.samples=2", "evaluate.prompts=16"]


def measured(arguments: list[str]) -> tuple[str, float, float]:
    """(standard output, seconds, bytes of the largest resident set) of a command."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "equipoise", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    unit = 1 if sys.platform == "darwin" else 1024
    return out, time.perf_counter() - begin, float(used.ru_maxrss * unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", nargs="*", default=[str(model_path())])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    write_pairs(given.out / "pairs.jsonl", LanguageGame(), 200, seed=1, reference=reference_policy())
    (given.out / "rule.py").write_text(RULE)
    print("| model | method | steps | taken | memory, MiB | measured | time, s | measured |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for model in given.model:
        for method, more in RUNS.items():
            oracle = ["--oracle", f"{given.out / 'rule.py'}:score"] if method == "inpo" else []
            call = [
                method,
                "--model",
                model,
                "--data",
                str(given.out / "pairs.jsonl"),
                *oracle,
                *more,
                *COMMON,
            ]
            run = given.out / f"{Path(model).name}-{method}"
            text, _, _ = measured(["plan", *call, "--json"])
            plan = json.loads(text)
            _, seconds, peak = measured(["align", *call, "--out", str(run)])
            taken = len((run / "metrics.jsonl").read_text().splitlines())
            print(
                f"| {Path(model).name} | {method} | {plan['steps']} | {taken} | {plan['memory_bytes'] / 2**20:,.0f} | "
                f"{peak / 2**20:,.0f} | {plan['total_seconds']:.1f} | {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
