"""Every method that trains on recorded data, for a short run on the playground: one line each.

    python benchmarks/objectives.py [--only NAME ...] [--seeds 0] [--data FILE --model FOLDER] [--set NAME=VALUE ...]
    python benchmarks/objectives.py --draw            (write the section of README.md again from the figures)

For each method: whether its loss falls (mean of the first tenth of the steps, and of the last), accuracy on held-out
data against one half, change of the mean log-prob of chosen and rejected responses on them, mass outside the grammar,
KL from the reference, processor seconds of the run without Python's start. Methods play with their own playground
settings; --set adds to them.

Runs are made in runs/benchmark-objectives and kept there: a finished one is not repeated, so the command can be stopped
and given again. The figures go to benchmarks/results/objectives.json with machine and versions; lines of methods and
seeds that are not asked for stay. Runs on other data are printed and nothing else.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml
from common import HERE, machine, table, told, versions, write_section

from equipoise.methods.index import METHODS
from equipoise.report.methods.guide import need_of
from equipoise.run.session import align

RUNS = Path("runs/benchmark-objectives")
RESULTS = HERE / "results" / "objectives.json"
CPU = "benchmark.cpu"  # processor seconds of the run, in its folder
LEAK = 0.02  # mass outside the grammar from which a run counts as one that leaks
DATA = {
    "pairs": "Recorded pairs",
    "lists": "Ranked lists",
    "unpaired": "Unpaired responses, desirable or undesirable",
}


def offline() -> list[str]:
    """Methods that are given recorded data, of whatever kind, and ask nobody."""
    return [m.name for m in METHODS.values() if need_of(m) != "online"]


def run(name: str, seed: int, inputs: Mapping[str, Any], world: Path) -> str:
    """One run, if it is not there yet; what is to be said of it."""
    folder = world / f"{name}-{seed}"
    begin = time.process_time()
    try:
        align(name, seed=seed, out=folder, quiet=True, **inputs)
    except (ValueError, RuntimeError) as error:
        return f"{name:<20} seed {seed}  FAILED: {error}"
    if not (folder / CPU).exists():
        (folder / CPU).write_text(f"{time.process_time() - begin:.1f}\n")
    return line(read(name, seed, world) or {})


def read(name: str, seed: int, world: Path) -> dict[str, Any] | None:
    """The figures of a finished run."""
    folder = world / f"{name}-{seed}"
    if not (folder / CPU).exists():
        return None
    steps = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    loss = [step["loss"] for step in steps if "loss" in step]
    last = json.loads((folder / "evaluation.jsonl").read_text().splitlines()[-1])
    tenth = max(1, len(loss) // 10)
    accuracy = last["accuracy"] or dict.fromkeys(("value", "low", "high"))
    return {
        "method": name,
        "seed": seed,
        "loss": [sum(part) / tenth for part in (loss[:tenth], loss[-tenth:])] if loss else None,
        "accuracy": [accuracy["value"], accuracy["low"], accuracy["high"]],
        "chosen": last["chosen_log_ratio"],
        "rejected": last["rejected_log_ratio"],
        "win_rate": last["exact_win_rate"],
        "outside": last["outside"],
        "kl": last["kl"]["value"],
        "seconds": float((folder / CPU).read_text()),
    }


def shown(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def line(row: dict[str, Any]) -> str:
    first, last = row["loss"] or (None, None)
    value, low, high = row["accuracy"]
    return (
        f"{row['method']:<20} seed {row['seed']}  loss {shown(first, '7.3f')} to {shown(last, '7.3f')}  "
        f"accuracy {shown(value, '.1%')} ({shown(low, '.1%')} to {shown(high, '.1%')})  "
        f"chosen {shown(row['chosen'], '+.2f')}  rejected {shown(row['rejected'], '+.2f')}  "
        f"outside {shown(row['outside'], '.1%')}  KL {shown(row['kl'], '.2f')}  "
        f"win rate {shown(row['win_rate'], '.1%')}  {row['seconds']:.0f} s"
    )


def save(rows: Iterable[dict[str, Any]]) -> None:
    kept = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    found = {(row["method"], row["seed"]): row for row in [*kept, *rows]}
    order = {name: place for place, name in enumerate(METHODS)}
    about = {
        "command": "python benchmarks/objectives.py",
        "machine": machine(),
        "versions": versions("transformers"),
        "rows": [found[key] for key in sorted(found, key=lambda k: (order[k[0]], k[1]))],
    }
    RESULTS.write_text(json.dumps(about, indent=1) + "\n")


def cells(runs: list[dict[str, Any]]) -> tuple[str, ...]:
    """A method's line: means over its seeds, and the most that any of them had outside."""

    def mean(of: Callable[[dict[str, Any]], float | None], form: str) -> str:
        values = [value for run in runs if (value := of(run)) is not None]
        return shown(sum(values) / len(values) if values else None, form)

    first, last = (mean(lambda run, at=at: run["loss"] and run["loss"][at], ".3f") for at in (0, 1))
    return (
        f"`{runs[0]['method']}`",
        str(len(runs)),
        f"{first} to {last}",
        mean(lambda run: run["accuracy"][0], ".1%"),
        mean(lambda run: run["win_rate"], ".1%"),
        f"{max(run['outside'] for run in runs):.1%}",
        mean(lambda run: run["kl"], ".2f"),
        mean(lambda run: run["chosen"], "+.2f"),
        mean(lambda run: run["rejected"], "+.2f"),
        mean(lambda run: run["seconds"], ".0f"),
    )


def section(found: dict[str, Any]) -> str:
    """What was measured and what it says, as tables: one for each kind of data."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        by_method.setdefault(row["method"], []).append(row)
    leaks = [
        f"`{name}` ({cells(runs)[5]})"
        for name, runs in by_method.items()
        if max(r["outside"] for r in runs) > LEAK
    ]
    rises = [
        f"`{name}`"
        for name, runs in by_method.items()
        if any(r["loss"][1] >= r["loss"][0] for r in runs if r["loss"])
    ]
    chance = [
        f"`{name}`" for name, runs in by_method.items() if any((r["accuracy"][0] or 0) <= 0.5 for r in runs)
    ]
    lines = [
        told(found),
        "",
        "Loss: mean over the first and over the last tenth of the optimizer steps; losses of different methods are "
        "different quantities. Accuracy: how often the log-ratio to the initial policy ranks held-out answers as "
        "recorded (of single responses the area under the ROC curve). Win rate: exact, of held-out requests, against "
        "the initial policy, which stands at 50 %. Outside: mass outside the grammar, the most of all seeds. KL: nats "
        "from the initial policy. Chosen, rejected: change of their mean log-probs on held-out data. Seconds: "
        "processor time of the run without Python's start, other programs beside it. All but `outside` are means over "
        "the seeds.",
        "",
        *listed("More than 2 % outside", leaks),
        *listed("Loss does not fall", rises),
        *listed("Accuracy of one half or less", chance),
    ]
    header = (
        "method",
        "seeds",
        "loss",
        "accuracy",
        "win rate",
        "outside",
        "KL",
        "chosen",
        "rejected",
        "seconds",
    )
    for need, title in DATA.items():
        rows = [cells(runs) for name, runs in by_method.items() if need_of(METHODS[name]) == need]
        lines += [f"**{title}**", "", *table(header, rows)]
    return "\n".join(lines)


def listed(what: str, names: list[str]) -> list[str]:
    return [f"{what}: {', '.join(names) or 'none'}.", ""]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    settings = {
        key: yaml.safe_load(value) for key, value in (part.split("=", 1) for part in options.settings)
    }
    given = {"model": options.model, "data": options.data, "settings": settings}
    inputs = {key: value for key, value in given.items() if value}
    world = RUNS / "-".join([Path(options.data).stem if options.data else "playground", *options.settings])
    wanted = [(name, seed) for seed in options.seeds for name in options.only or offline()]
    if not options.draw:
        torch.set_num_threads(1)
        with ProcessPoolExecutor(options.jobs) as pool:
            missing = [job for job in wanted if read(*job, world) is None]
            for said in [pool.submit(run, *job, inputs, world) for job in missing]:
                print(said.result(), flush=True)
        if not inputs:
            save(row for job in wanted if (row := read(*job, world)))
    if not inputs:
        write_section(section(json.loads(RESULTS.read_text())), "objectives.py")


if __name__ == "__main__":
    main()
