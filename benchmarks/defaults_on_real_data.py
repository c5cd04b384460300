"""Do the defaults train? Methods on real preference data with no setting given beyond data, model and oracle.

    python benchmarks/defaults_on_real_data.py [DATA] --model NAME=FOLDER ... [--method dpo ...] [--only truthfulqa ...]
                                               [--set NAME=VALUE ...]
    python benchmarks/defaults_on_real_data.py --draw      (write the section of README.md again from the figures)

DATA (default: data) holds one folder for each data set, with pairs.jsonl.gz in it. --set cuts the data or the
evaluation (data.limit=300 data.held_out=0.4 evaluate.prompts=8); what was cut stands beside each figure.

INPO samples, and needs answers to compare and somebody who compares them. Its model is first fine-tuned on the chosen
answers (`align sft`, with its defaults), and is what INPO is compared with; its oracle knows the recorded answers of a
prompt, and scores a text by the words that it shares with a chosen one less those that it shares with a rejected one.

Runs are kept in runs/benchmark-defaults, figures as lines of results/defaults_on_real_data.jsonl; a finished run is not
repeated, and one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from common import HERE, machine, said, table, versions, write_section

from equipoise.run.config import parse_settings
from equipoise.run.session import align

RUNS = Path("runs/benchmark-defaults")
RESULTS = HERE / "results" / "defaults_on_real_data.jsonl"
SETS = ("persona_yes_no", "truthfulqa", "hh_rlhf_harmless")
METHODS = ("dpo", "spac", "ipo", "inpo")


class RecordedAnswers:
    """An oracle that knows a prompt's recorded answers: F1 of words with the nearest chosen one less that with the
    nearest rejected one."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self.fingerprint = hashlib.sha256(content).hexdigest()
        self.known: dict[str, list[tuple[Counter[str], Counter[str]]]] = defaultdict(list)
        for row in map(json.loads, gzip.decompress(content).decode("utf-8").splitlines()):
            pair = (words(row["chosen"][-1]["content"]), words(row["rejected"][-1]["content"]))
            self.known[row["prompt"][-1]["content"].strip()].append(pair)

    def __call__(self, prompt: Any, response: str) -> float:
        asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        pairs, own = self.known[asked.strip()], words(response)
        return max(f1(own, chosen) for chosen, _ in pairs) - max(f1(own, other) for _, other in pairs)


def words(text: str) -> Counter[str]:
    return Counter("".join(c if c.isalnum() else " " for c in text.lower()).split())


def f1(a: Counter[str], b: Counter[str]) -> float:
    shared = (a & b).total()
    return 2 * shared / (a.total() + b.total()) if shared else 0.0


def run(
    method: str, model: tuple[str, str], name: str, data: Path, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Figures of one run, made now or found."""
    path = data / name / "pairs.jsonl.gz"
    cut = "-".join(f"{key.rpartition('.')[2]}{value}" for key, value in settings.items())
    folder = RUNS / "-".join(filter(None, (method, name, model[0], cut)))
    begin, start = time.process_time(), model[1]
    oracle = None
    if method == "inpo":
        warm = folder.with_name(folder.name.replace("inpo", "sft", 1))
        start = str(
            align("sft", model=model[1], data=path, out=warm, settings=settings, quiet=True).checkpoint
        )
        oracle = RecordedAnswers(path)
    finished = (folder / "summary.json").exists()
    align(method, model=start, data=path, oracle=oracle, out=folder, settings=settings, quiet=True)
    found = figures(folder) | {"method": method, "model": model[0], "data": name, "cut": dict(settings)}
    return found | ({} if finished else {"cpu": round(time.process_time() - begin, 1)})


def figures(folder: Path) -> dict[str, Any]:
    """What a run folder says of a run."""
    lines = {name: _lines(folder / f"{name}.jsonl") for name in ("evaluation", "metrics")}
    first, last = lines["evaluation"][0], lines["evaluation"][-1]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    flat = {f"{a}.{b}": v for a, part in config.items() if isinstance(part, dict) for b, v in part.items()}
    return {
        "chosen": {name: flat[name] for name in config["chosen"]},
        "rounds": config["play"]["rounds"],
        "steps": len(lines["metrics"]),
        "reference": first["ranking"],
        "policy": last["ranking"],
        "gain": last["ranking_gain"],
        "by_round": [line["ranking"]["value"] for line in lines["evaluation"]],
        "accuracy": last["accuracy"],
        "kl": last["kl"],
        "chosen_log_ratio": last["chosen_log_ratio"],
        "rejected_log_ratio": last["rejected_log_ratio"],
        "finished": last["finished"],
        "win_rate": last["win_rate"],
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw() -> None:
    """The section of README.md."""
    header = [
        "run",
        "steps",
        "reference",
        "policy",
        "gain, paired",
        "implicit reward",
        "KL",
        "chosen",
        "rejected",
    ]
    found = _lines(RESULTS)
    lines = []
    for model in dict.fromkeys(one["model"] for one in found):
        rows = [one for one in found if one["model"] == model]
        lines += [f"**{model}**", ""]
        rows.sort(key=lambda one: (SETS.index(one["data"]), METHODS.index(one["method"])))
        lines += [*table(header, map(row, rows)), *dict.fromkeys(map(decided, rows)), ""]
    write_section("\n".join(lines).rstrip(), "defaults_on_real_data.py")


def row(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{one['method']}, {one['data']}",
        f"{one['steps']}",
        f"{one['reference']['value']:.3f}",
        said(one["policy"]),
        said(one["gain"], signed=True),
        f"{one['accuracy']['value']:.3f}",
        f"{one['kl']['value']:.1f}",
        f"{one['chosen_log_ratio']:+.1f}",
        f"{one['rejected_log_ratio']:+.1f}",
    )


def decided(one: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name}={value:g}" for name, value in one["chosen"].items())
    cut = ", ".join(f"{name}={value}" for name, value in one["cut"].items())
    return f"- {one['data']}, {one['method']}: {values}" + (f"; cut by {cut}" if cut else "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, default=Path("data"))
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--method", nargs="+", default=METHODS)
    parser.add_argument("--only", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--draw", action="store_true")
    asked = parser.parse_args()
    if asked.draw:
        draw()
        return
    RESULTS.parent.mkdir(exist_ok=True)
    for name in asked.only:
        for method in asked.method:
            for model in asked.model:
                label, _, folder = model.partition("=")
                found = run(method, (label, folder), name, asked.data, parse_settings(asked.set))
                key = ("method", "model", "data", "cut")
                known = _lines(RESULTS) if RESULTS.exists() else []
                old = [one for one in known if [one[k] for k in key] == [found[k] for k in key]]
                if "cpu" not in found and old:
                    continue
                found |= {"machine": machine(), "versions": versions("transformers")}
                kept = [one for one in known if one not in old] + [found]
                RESULTS.write_text("".join(f"{json.dumps(one)}\n" for one in kept))
                print(f"{label:<10}", *row(found), sep="  ", flush=True)


if __name__ == "__main__":
    main()
