"""Where the time of a round goes: SPAC and INPO on the playground, by phase, on packed rows and on padded ones.

python benchmarks/phases.py           measure, write results/phases.json, then the section of README.md
python benchmarks/phases.py --draw    write the section again from the figures that are there
python benchmarks/phases.py --once    one command of each kind instead of three

Padded is the plain path: a row for every response, in scoring and training, and for every sample in generation. One
round of each method at the playground's own settings, whole commands in turn; the phases are those of a run folder's
timings.jsonl.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from common import HERE, command, machine, seconds, table, told, versions, write_section

from equipoise.policy.generation import sampling
from equipoise.policy.generation.padded import PaddedDecoder
from equipoise.policy.scorer import Scorer
from equipoise.run.session import align
from equipoise.worlds.text import progress

RESULTS = HERE / "results" / "phases.json"
METHODS, LAYOUTS, REPEATS = ("spac", "inpo"), ("packed", "padded"), 3
PHASES = ("sampling", "judging", "anchors", "training", "writing", "evaluating")
REST = "the rest"  # reading the model, the first evaluation's tables, the report


@contextmanager
def padded_rows() -> Iterator[None]:
    """Context manager: scoring and sampling temporarily use padded rows only."""
    probe, choose_backend = Scorer._probe_packing, sampling.choose_backend
    Scorer._probe_packing, sampling.choose_backend = lambda *_: 0, lambda model: PaddedDecoder  # type: ignore[assignment]
    try:
        yield
    finally:
        Scorer._probe_packing, sampling.choose_backend = probe, choose_backend  # type: ignore[method-assign]


def measure(method: str, layout: str) -> dict[str, float]:
    """Processor seconds of each phase of one round, evaluations before and after it together."""
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"

        def play() -> None:
            align(method, rounds=1, out=run, quiet=True)

        if layout == "packed":
            whole = seconds(play)
        else:
            with padded_rows():
                whole = seconds(play)
        lines = [json.loads(line) for line in (run / "timings.jsonl").read_text().splitlines()]
    found = dict.fromkeys(PHASES, 0.0)
    for line in lines:
        found[line["phase"]] += line["seconds"]
    return found | {REST: whole - sum(found.values())}


def section(found: dict[str, Any]) -> str:
    rows = []
    for method in METHODS:
        times = {layout: found["runs"][method][layout] for layout in LAYOUTS}
        middle = {
            layout: {p: statistics.median(run[p] for run in times[layout]) for p in times[layout][0]}
            for layout in LAYOUTS
        }
        rows += [
            (method, phase, *cells(middle["padded"][phase], middle["packed"][phase]))
            for phase in (*PHASES, REST)
            if phase == REST or middle["packed"][phase]
        ]
        rounds = {layout: [sum(run[p] for p in PHASES[:-1]) for run in times[layout]] for layout in LAYOUTS}
        rows.append(
            (
                method,
                "**the round**",
                *cells(*(statistics.median(rounds[layout]) for layout in reversed(LAYOUTS))),
            )
        )
    lines = [
        told(found)
        + f" Processor seconds, medians of {len(times['packed'])} commands each, `equipoise align METHOD --rounds 1`.",
        "",
        *table(("method", "phase", "padded rows", "packed rows", "padded / packed"), rows),
        "'The round' is all but evaluation (exact figures by enumeration, before and after the round) and the "
        "rest: reading the model and writing the report. Texts of the playground have about ten tokens, prompts a "
        "few more.",
    ]
    return "\n".join(lines)


def cells(padded: float, packed: float) -> tuple[str, ...]:
    return f"{padded:.2f}", f"{packed:.2f}", f"{padded / packed:.1f}" if packed > 0.005 else "-"


if __name__ == "__main__":
    torch.set_num_threads(1)
    progress.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]
    if "--draw" not in sys.argv[1:]:
        runs: dict[str, Any] = {method: {layout: [] for layout in LAYOUTS} for method in METHODS}
        align("dpo", rounds=1, out=Path(tempfile.mkdtemp()) / "run", quiet=True)  # first touches
        for _ in range(1 if "--once" in sys.argv[1:] else REPEATS):
            for method in METHODS:
                for layout in LAYOUTS:
                    runs[method][layout].append(measure(method, layout))
                    print(method, layout, runs[method][layout][-1], file=sys.stderr)
        found: dict[str, Any] = {"command": command("phases.py"), "runs": runs}
        found |= {"machine": machine(), "versions": versions("transformers", "accelerate")}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    write_section(section(json.loads(RESULTS.read_text())), "phases.py")
