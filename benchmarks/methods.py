"""Every online method on a language model: the playground's transformer, or a small story model judged by a rule.

    python benchmarks/methods.py playground [--seeds 3] [--jobs 2] [--only NAME ...]
    python benchmarks/methods.py stories --model FOLDER --data FILE --oracle FILE.py:FUNCTION [--seeds 1]
    python benchmarks/methods.py table playground          (print the table of finished runs again)

Runs are made in runs/benchmark-methods and resumed there, so the command can be stopped and given again. The table goes
to benchmarks/results/methods_WORLD.json with machine, versions and command.

Each method plays with its own playground settings; those that refit play 10 rounds of about a dozen optimizer steps,
those that take a few gradient steps a round 40.
Intervals are means over seeds with Student's t; a single seed has none. Seconds are processor time of the whole
command, evaluation included, with one thread: what the clock shows on a core of its own. A run that was broken off and
resumed counts its last part only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from equipoise.methods.index import METHODS
from equipoise.worlds.text.folder.row_files import load_rows

HERE = Path(__file__).parent
RUNS = Path("runs/benchmark-methods")
CPU = "benchmark.cpu"  # processor seconds of the whole command, in its run folder
REFITS, STEPS = 10, 40
STORIES = {
    "data.prompt_words": 6,
    "sampling.max_new_tokens": 24,
    "sampling.batch": 64,
    "play.prompts": 32,
    "play.samples": 6,
    "train.lr": 5e-4,
    "train.batch": 32,
    "train.micro_batch": 32,
    "evaluate.prompts": 64,
    "evaluate.samples": 4,
}
# Stories are four times as long as the playground's answers, and the model has no grammar to leave. XPO's bonus is on
# a sum over tokens: the paper's alpha. A zeroth-order step is as good as its comparisons are many.
STORY_OWN: dict[str, dict[str, Any]] = {
    "xpo": {"objective.alpha": 1e-5, "train.epochs": 2, "play.samples": 8},
    "zpg": {"objective.alpha": 1e-4, "objective.votes": 0, "play.rounds": 60, "play.prompts": 128},
    "zbcpg": {"objective.alpha": 5e-5, "objective.votes": 0, "play.rounds": 60, "play.prompts": 128},
}


def online() -> list[str]:
    """Methods that are judged on what they write, the ones that are compared most first."""
    first = ["inpo", "egpo", "onpo", "mpo", "iterative_dpo", "sppo", "nash_md", "online_dpo"]
    return first + [m.name for m in METHODS.values() if m.needs != "pairs" and m.name not in first]


def settings(world: str, name: str) -> list[str]:
    method = METHODS[name]
    own = dict(method.playground) if world == "stories" else {}
    many = method.playground.get("evaluate.every", 1) > 1
    rounds = STEPS if many else REFITS
    if name == "inpo":  # its own settings are the demo's, whose rate is too high for 10 rounds
        own |= {"train.lr": 5e-4, "train.eps": 3e-3, "train.epochs": 4}
    if world == "stories":
        own |= STORIES | {"train.epochs": min(2, own.get("train.epochs", 1))}
        rounds = 10 if many else 3
        if not hasattr(method.players, "samples") or name == "p3o":
            own.pop("play.samples")
        special = STORY_OWN.get(name, {})
        own, rounds = own | special, special.get("play.rounds", rounds)
    elif method.rounds == 1:
        rounds = 1
    elif name == "dno_prct":
        rounds = 6  # from the seventh on it may happen that no pair passes its thresholds
    own |= {"play.rounds": rounds, "evaluate.every": max(1, rounds // 4) if many else rounds}
    return [f"{key}={value}" for key, value in own.items()]


def story_pairs() -> Path:
    """Recorded pairs for the methods that need some: what the rule said in iterative DPO's rounds, as a data file."""
    path = RUNS / "stories" / "pairs.jsonl"
    if not path.exists():
        rows = [
            load_rows(p) for p in sorted((RUNS / "stories/iterative_dpo-0/rounds").glob("*/judging.parquet"))
        ]
        lines = [
            {"prompt": prompt.context, "chosen": group[best].text, "rejected": group[1 - best].text}
            for part in rows
            for prompt, group, prob in zip(part.prompts, part.responses, part.prob, strict=True)
            for best in [int(prob < 0.5)]
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(world: str, name: str, seed: int, inputs: list[str]) -> None:
    folder = RUNS / world / f"{name}-{seed}"
    if (folder / "summary.json").exists():
        return
    command = [
        sys.executable,
        "-m",
        "equipoise.cli.app",
        "align",
        name,
        "--seed",
        str(seed),
        "--out",
        str(folder),
    ]
    if world == "stories" and "pairs" in METHODS[name].needs:
        # a run reads one kind of rows: the pairs' openings are its prompts
        place = inputs.index("--data") + 1
        inputs = [*inputs[:place], str(story_pairs()), *inputs[place + 1 :]]
    command += [*inputs, "--set", *settings(world, name)]
    begin = time.perf_counter()
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as lines:
        child = subprocess.Popen(
            command, stdout=lines, stderr=lines, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        _, status, used = os.wait4(child.pid, 0)
    spent = used.ru_utime + used.ru_stime
    if status == 0:
        (folder / CPU).write_text(f"{spent:.1f}\n")
    last = (log.read_text().strip() or "?").splitlines()[-1]
    said = "done" if status == 0 else f"FAILED: {last}"
    wall = time.perf_counter() - begin
    print(f"{name:<16} seed {seed}  {wall:5.0f} s by the clock, {spent:5.0f} s of a core  {said}", flush=True)


def read(world: str, name: str) -> dict[str, Any] | None:
    """Figures over the seeds: exact ones where the world can be enumerated, and who won against the reference."""
    found: dict[str, list[float]] = {}
    for folder in sorted((RUNS / world).glob(f"{name}-[0-9]*")):
        if not (folder / "summary.json").exists():
            continue
        lines = [json.loads(line) for line in (folder / "evaluation.jsonl").read_text().splitlines()]
        last = lines[-1]
        figures = {
            "win_rate": last["exact_win_rate"] if world == "playground" else last["win_rate"]["value"],
            "exploitability": last["exploitability"],
            "kl": last["exact_kl"] if world == "playground" else last["kl"]["value"],
            "outside": last["outside"],
            "seconds": float((folder / CPU).read_text()),
        }
        if world == "stories":
            figures |= {"low": last["win_rate"]["low"], "high": last["win_rate"]["high"]}
            figures["before"] = lines[0]["win_rate"]["value"]
        for key, value in figures.items():
            found.setdefault(key, []).append(value)
    return {key: values for key, values in found.items() if values[0] is not None} if found else None


def interval(values: list[float]) -> tuple[float, float | None]:
    """Mean and half-width of its 95 % interval over seeds."""
    if len(values) < 2:
        return values[0], None
    spread = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(spread)


def table(world: str, names: Iterable[str]) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        found = read(world, name)
        if found:
            about = {"method": name, "seeds": len(found["win_rate"])}
            rows.append(about | {key: interval(values) for key, values in found.items()})
    key = "exploitability" if world == "playground" else "win_rate"
    return sorted(rows, key=lambda row: row[key][0] * (1 if world == "playground" else -1))


def show(world: str, rows: list[dict[str, Any]]) -> str:
    def figure(pair: tuple[float, float | None], form: str) -> str:
        mean, half = pair
        return f"{mean:{form}}" if half is None else f"{mean:{form}} ± {half:{form}}"

    if world == "playground":
        lines = [
            "| method | win rate | exploitability | KL | outside | seconds |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            cells = [
                figure(row["win_rate"], ".1%"),
                figure(row["exploitability"], ".3f"),
                figure(row["kl"], ".2f"),
                figure(row["outside"], ".1%"),
                f"{row['seconds'][0]:.0f}",
            ]
            lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
        return "\n".join(lines)
    lines = ["| method | before | after | 95 % interval | KL | seconds |", "|---|---|---|---|---|---|"]
    for row in rows:
        before, after, low, high = (row[key][0] for key in ("before", "win_rate", "low", "high"))
        lines.append(
            f"| {row['method']} | {before:.1%} | {after:.1%} | {low:.1%} to {high:.1%} | {row['kl'][0]:.1f} "
            f"| {row['seconds'][0]:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", choices=("playground", "stories", "table"))
    parser.add_argument("which", nargs="?", choices=("playground", "stories"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--oracle")
    options = parser.parse_args()
    world = options.which if options.world == "table" else options.world
    names = options.only or online()
    if options.world != "table":
        given = (("--model", options.model), ("--data", options.data), ("--oracle", options.oracle))
        inputs = [part for flag, value in given if value for part in (flag, value)]
        with ThreadPoolExecutor(options.jobs) as pool:
            for seed in range(options.seeds):
                for name in names:
                    pool.submit(run, world, name, seed, inputs)
    rows = table(world, names)
    print(show(world, rows))
    about = {
        "command": " ".join(["python", "benchmarks/methods.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a run",
        "versions": {name: version(name) for name in ("equipoise", "torch", "transformers")},
        "settings": {name: settings(world, name) for name in names},
        "rows": rows,
    }
    out = HERE / "results" / f"methods_{world}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
