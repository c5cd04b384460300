"""How much mass every online method leaves outside the playground's grammar, at its own playground settings.

    python benchmarks/leaks.py run [--seeds 101 102 103 104 105] [--only NAME ...] [--minutes 60] [--set key=value ...]
    python benchmarks/leaks.py table [--write]

Every run is one line of results/leaks.jsonl with the settings it was made with; a method whose defaults have changed
since is run again, everything else is read back. --minutes stops before the next run would begin. The seeds are none of
those that settings were tuned on. `outside` is exact: the probability of texts outside the grammar, the mean over
held-out prompts, after the last round; `worst` is the largest of all evaluated rounds. A method holds if no seed's last
policy has more than 2 % outside.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import HERE, command, cpu, table, versions, write_section

from equipoise.methods.index import METHODS
from equipoise.play.method import Method
from equipoise.run.session import align

FOUND = HERE / "results" / "leaks.jsonl"
SEEDS = (101, 102, 103, 104, 105)
HOLDS = 0.02


def online(method: Method) -> bool:
    """Whether the method trains on samples of a policy: its players sample, or its pairing asks about samples."""
    records = method.needs.records
    try:
        method.players.writing(method.players.width or 1)
    except ValueError:
        return method.needs.oracle
    return True if records is None or method.needs.oracle else method.players.exchangeable


def made_with(method: Method) -> str:
    """A short hash of everything that a run on the playground is made with by default."""
    parts = [method.players, method.pairing, method.objective, method.update, method.anchors, method.rounds]
    said = json.dumps([*map(repr, parts), repr(method.train), repr(method.sampling), repr(method.playground)])
    said = re.sub(r" at 0x[0-9a-f]+", "", said)  # a function's address
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def known() -> list[dict[str, Any]]:
    """Finished runs, the last line of each method and seed."""
    if not FOUND.exists():
        return []
    lines = [json.loads(line) for line in FOUND.read_text(encoding="utf-8").splitlines()]
    return list({(line["method"], line["seed"], tuple(line["set"])): line for line in lines}.values())


def run(name: str, seed: int, given: list[str]) -> dict[str, Any]:
    """One run in a folder of its own that is thrown away; the figures of its evaluations."""
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        settings = dict(entry.split("=", 1) for entry in given)
        try:
            made = align(name, seed=seed, out=Path(folder) / "run", settings=settings, quiet=True)
        except ValueError as error:
            return {"failed": str(error)}
        lines = (made.folder / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()
        rounds = [json.loads(line) for line in lines]
    if rounds[-1]["outside"] is None:
        return {"elsewhere": True}  # a world of its own, whose texts are not enumerated
    return {
        "outside": rounds[-1]["outside"],
        "worst": max(one["outside"] for one in rounds),
        "win_rate": rounds[-1]["exact_win_rate"],
        "exploitability": rounds[-1]["exploitability"],
        "kl": rounds[-1]["exact_kl"],
        "seconds": round(time.process_time() - begin, 1),
    }


def measure(names: list[str], seeds: list[int], given: list[str], minutes: float) -> None:
    begin, longest = time.monotonic(), 0.0
    done = {(line["method"], line["seed"], line["made_with"], tuple(line["set"])) for line in known()}
    for seed in seeds:
        for name in names:
            key = (name, seed, made_with(METHODS[name]), tuple(given))
            if key in done:
                continue
            started = time.monotonic()
            if started + longest > begin + 60 * minutes:
                return
            found = {
                "method": name,
                "seed": seed,
                "made_with": key[2],
                "set": given,
                **run(name, seed, given),
            }
            longest = max(longest, time.monotonic() - started)
            with FOUND.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)


def rows_of(lines: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each method, the leakiest first; runs made with other settings than today's are left out."""
    today = {name: made_with(method) for name, method in METHODS.items()}
    kept = [line for line in lines if today.get(line["method"]) == line["made_with"] and not line["set"]]
    kept = [line for line in kept if "elsewhere" not in line]
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in kept:
        groups.setdefault(line["method"], []).append(line)
    rows = []
    for name, group in groups.items():
        failed = [line for line in group if "failed" in line]
        sound = sorted((line for line in group if "failed" not in line), key=lambda line: line["outside"])
        if not sound:
            rows.append((2.0, [name, METHODS[name].status, "0", "-", "-", "-", "-", "fails"]))
            continue
        last = [line["outside"] for line in sound]
        wins = sorted(line["win_rate"] for line in sound)
        gaps = sorted(line["exploitability"] for line in sound)
        leaks = last[-1] > HOLDS or bool(failed)
        verdict = "no" if leaks else "yes" if len(sound) >= len(SEEDS) else "so far"
        rows.append(
            (
                last[-1],
                [
                    name,
                    METHODS[name].status,
                    str(len(sound)),
                    f"{last[len(last) // 2]:.1%}",
                    f"{last[-1]:.1%}",
                    f"{max(line['worst'] for line in sound):.1%}",
                    f"{wins[len(wins) // 2]:.1%} ({wins[0]:.1%} to {wins[-1]:.1%})",
                    f"{gaps[len(gaps) // 2]:.3f}",
                    verdict,
                ],
            )
        )
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--set", dest="given", nargs="*", default=[])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    names = options.only or [name for name, method in METHODS.items() if online(method)]
    if options.what == "run":
        measure(names, options.seeds, options.given, options.minutes)
        return
    header = (
        "method",
        "status",
        "seeds",
        "outside, median",
        "largest",
        "largest of any round",
        "win rate, median (range)",
        "exploitability, median",
        "holds",
    )
    lines = table(header, rows_of(known()))
    made = ", ".join(f"{name} {version}" for name, version in versions("transformers").items())
    text = "\n".join([f"{cpu()}, one thread; {made}. `{command('leaks.py')}`.", "", *lines])
    print(text)
    if options.write:
        write_section(text, "leaks.py")


if __name__ == "__main__":
    main()
