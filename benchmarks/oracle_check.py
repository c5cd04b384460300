"""Oracle checks of recorded judges: the figures of docs/oracles.md, "What a check says".

Judges that were asked long ago, in both orders, against labels of experts and of people: LLMBar, MT-bench, and a round
robin of eight systems. Their verdicts become files of `kind: recorded`, and `equipoise oracle check` reads them.

    python benchmarks/oracle_check.py FOLDER

FOLDER holds llmbar, mt_bench_human and judge_roundrobin_vicuna80, with pairs.jsonl.gz {id, prompt, chosen,
rejected} and judge_verdicts.csv.gz of the LLMBar authors, and responses.jsonl.gz and verdicts.jsonl.gz of the QLoRA
authors. Everything is on the CPU and takes about two minutes.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

Row = dict[str, Any]

LONGER = "def longer(prompt, response):\n    return len(response) / 400\n"
SCORE = {1: 1.0, 2: 0.0, 3: 0.5, -1: None}  # the round robin's verdicts -> P(the first one beats the second)
JUDGES = ("GPT-4", "LLaMA2", "Falcon")


def lines(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def write(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recorded(folder: Path, name: str, rows: Iterable[Row]) -> Path:
    """An oracle's YAML file, with its verdicts beside it."""
    write(folder / f"{name}.jsonl", rows)
    path = folder / f"{name}.yaml"
    path.write_text(f"kind: recorded\nverdicts: {name}.jsonl\nname: {name}\n", encoding="utf-8")
    return path


def judged(data: Path, judge: str) -> Iterator[Row]:
    """The zero-shot verdicts of a judge without rules in its prompt, one row for each order that was shown."""
    pairs = {row["id"].split("-", 1)[1]: row for row in lines(data / "pairs.jsonl.gz")}
    with gzip.open(data / "judge_verdicts.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for verdict in csv.DictReader(file):
            if (verdict["judge"], verdict["prompting"], verdict["run"]) != (judge, "Vanilla_NoRules", "0"):
                continue
            pair = pairs.get(f"{verdict['subset']}-{verdict['index']}")
            if pair is None:
                continue
            gold = verdict["gold_label"]
            text = {
                gold: pair["chosen"][-1]["content"],
                "12".replace(gold, ""): pair["rejected"][-1]["content"],
            }
            for first, second, winner in (
                ("1", "2", verdict["winner_original_order"]),
                ("2", "1", verdict["winner_swapped_order"]),
            ):
                prob = None if winner not in ("1", "2") else float(winner == first)
                yield {
                    "prompt": pair["prompt"],
                    "response_a": text[first],
                    "response_b": text[second],
                    "prob": prob,
                }


def round_robin(data: Path) -> tuple[list[Row], list[Row]]:
    """(labelled pairs, the judge's verdicts); the labels are its own verdicts, averaged over both orders."""
    answers: dict[Any, dict[str, Row]] = {}
    for row in lines(data / "responses.jsonl.gz"):
        answers.setdefault(row["question_id"], {})[row["system"]] = row
    found: dict[tuple[Any, str, str], float | None] = {}
    for row in lines(data / "verdicts.jsonl.gz"):
        found[row["question_id"], row["system_1"], row["system_2"]] = SCORE[row["score"]]
    verdicts = [
        {
            "prompt": answers[question][a]["prompt"],
            "response_a": answers[question][a]["text"],
            "response_b": answers[question][b]["text"],
            "prob": prob,
        }
        for (question, a, b), prob in found.items()
    ]
    pairs = []
    for question, by in answers.items():
        for a, b in combinations(sorted(by), 2):
            forth, back = found.get((question, a, b)), found.get((question, b, a))
            sides = [prob for prob in (forth, None if back is None else 1 - back) if prob is not None]
            if not sides:
                continue
            pairs.append(
                {
                    "prompt": by[a]["prompt"],
                    "chosen": by[a]["text"],
                    "rejected": by[b]["text"],
                    "prob": sum(sides) / len(sides),
                    "chosen_model": a,
                    "rejected_model": b,
                }
            )
    return pairs, verdicts


def check(oracle: Path | str, data: Path, *more: str) -> Mapping[str, Any]:
    """The figures of `equipoise oracle check --json`."""
    command = [
        sys.executable,
        "-m",
        "equipoise",
        "oracle",
        "check",
        str(oracle),
        "--data",
        str(data),
        "--limit",
        "0",
    ]
    done = subprocess.run([*command, "--json", *more], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def share(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return "none"
    return f"{interval['value']:.1%} [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def number(interval: Mapping[str, float | None] | None) -> str:
    if interval is None:
        return "none"
    low, high = ("..." if end is None else f"{end:.2f}" for end in (interval["low"], interval["high"]))
    return f"{interval['value']:.2f} [{low}, {high}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="folder with llmbar, mt_bench_human, judge_roundrobin_vicuna80"
    )
    parser.add_argument(
        "--keep", type=Path, help="also write the figures of each check as JSON into this folder"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run(asked.folder, Path(name), asked.keep)


def run(data: Path, work: Path, keep: Path | None) -> None:
    rule = work / "rules.py"
    rule.write_text(LONGER, encoding="utf-8")
    found: dict[str, Mapping[str, Any]] = {}
    first, *others = (recorded(work, judge, judged(data / "llmbar", judge)) for judge in JUDGES)
    found["LLMBar"] = check(
        first, data / "llmbar/pairs.jsonl.gz", "--against", *map(str, others), "--against", f"{rule}:longer"
    )
    people = work / "people"
    people.mkdir()
    found["MT-bench"] = check(
        recorded(people, "GPT-4", judged(data / "mt_bench_human", "GPT-4")),
        data / "mt_bench_human/pairs.jsonl.gz",
        "--against",
        f"{rule}:longer",
    )
    pairs, verdicts = round_robin(data / "judge_roundrobin_vicuna80")
    found["round robin"] = check(
        recorded(work, "robin", verdicts),
        write(work / "pairs.jsonl", pairs),
        "--writers",
        "chosen_model,rejected_model",
    )
    for name, figures in found.items():
        print(
            f"\n{name}: {figures['data']['comparisons']:,} comparisons of {figures['data']['prompts']:,} prompts"
        )
        table(figures)
        for pair in figures["agreement"]["pairs"]:
            names = [Path(pair[side]).name.rpartition(":")[2] for side in ("one", "two")]
            print(f"kappa of {names[0]} and {names[1]}: {number(pair['kappa'])}")
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{name.replace(' ', '_')}.json").write_text(
                json.dumps(figures, indent=1), encoding="utf-8"
            )
    transitivity(found["round robin"]["oracles"][0])


def table(figures: Mapping[str, Any]) -> None:
    """One column for each oracle, in Markdown."""
    oracles = figures["oracles"]
    names = [Path(one["name"]).name.rpartition(":")[2] for one in oracles]
    print(f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for title, cells in rows(oracles):
        print(f"| {title} | {' | '.join(cells)} |")


def rows(oracles: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """(title, a cell for each oracle); a failed question is wrong, as in the report."""
    listed = list(oracles)
    yield "accuracy", [share(one["accuracy"]["accuracy"]) for one in listed]
    order = [one["order"] for one in listed]
    yield (
        "the place decides",
        [f"{share(of['position'])} ({of['first']} first, {of['second']} second)" for of in order],
    )
    yield "order bias", [number(of["bias"]) for of in order]
    yield "length weight", [number(one["length"]["oracle"]) for one in listed]
    yield "of the labels", [number(one["length"]["label"]) for one in listed]
    yield "their difference", [number(one["length"]["excess"]) for one in listed]
    calibration = [one["calibration"] for one in listed]
    yield "temperature", [number(of["temperature"]) for of in calibration]
    for name, title in (("log_loss", "log-loss, nats"), ("log_loss_cooled", "at that temperature")):
        yield title, [number(of[name]) for of in calibration]


def transitivity(oracle: Mapping[str, Any]) -> None:
    """Cycles and the gain of a general preference model over one score for each writer."""
    averaged, single = oracle["cycles"], oracle["cycles_in_one_order"]
    print(f"\ncyclic triples, one order: {share(single['cyclic'])} of {single['triples']:,}", end="")
    print(
        f" (flips of a true order {single['expected']['flips']:.1%}, coins {single['expected']['coin']:.0%})"
    )
    print(
        f"both orders averaged: {averaged['cycles']:,} of {averaged['triples']:,}; {averaged['tied']:,} more have a tie"
    )
    gain = oracle["transitivity"]["gain"]["general"]
    print(
        f"general model over Bradley-Terry: {gain['value']:.4f} [{gain['low']:.4f}, {gain['high']:.4f}] nats"
    )


if __name__ == "__main__":
    main()
