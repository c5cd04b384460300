"""DSTC end to end: what a policy gains from its own code and tests.

python benchmarks/dstc.py small [--method dstc] [--seeds 5] [--rounds 2]
python benchmarks/dstc.py real PROBLEMS --model FOLDER [--problems 16] [--held-out 16] [--codes 4] [--tests 4] [--lr
RATE]

`small` plays the package's small world of code. `real` takes a file of problems with the columns prompt, entry_point
and
test (HumanEval, MBPP in its form): a chat model is asked to complete each function. The true tests are run on samples
for held-out problems, before and after; training sees no test but the policy's own.

What counts is pass@1, the mean share of samples that pass all true tests, on held-out problems. Set before the first
run:
DSTC gains where the 95 % t-interval over seeds of after less before lies above 0 (`small`), or that over problems
(`real`, one seed).
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import HERE, command, machine, table, told, versions

import equipoise as eq
from equipoise import oracles
from equipoise.claims.claim import interval
from equipoise.playground.worlds import world_folder

ASK = (
    "Complete this Python function. Answer with the whole function in one code block, and nothing else.\n\n"
    "```python\n{prompt}```"
)


def problems(file: str, most: int) -> list[dict[str, Any]]:
    """The first problems of a file as chat prompts with their true tests."""
    opened = gzip.open(file, "rt") if file.endswith(".gz") else open(file)  # noqa: SIM115, PTH123
    with opened as lines:
        rows = [json.loads(line) for line in lines][:most]
    return [
        {
            "prompt": [{"role": "user", "content": ASK.replace("{prompt}", row["prompt"])}],
            "entry_point": row["entry_point"].strip(),
            "tests": row["test"],
        }
        for row in rows
    ]


def passes(run: Path, round: int, oracle: str) -> list[float]:
    """The share of samples that pass all true tests, of each held-out problem."""
    name = "evaluation-policy" if round else "evaluation-reference"
    stage = pq.read_table(run / "rounds" / f"{round:03d}" / f"{name}.parquet").to_pydict()
    contexts = [json.loads(text) for text in stage["context"]]
    texts = [[response["text"] for response in group] for group in stage["responses"]]
    asked = [context for context, group in zip(contexts, texts, strict=True) for _ in group]
    scores = oracles.load(oracle).score(asked, [text for group in texts for text in group]).tolist()
    places = iter(scores)
    return [float(np.mean([next(places) for _ in group])) for group in texts]


def own(run: Path, rounds: int) -> list[Mapping[str, float]]:
    """What became of the policy's own code and tests, by round."""
    lines = [json.loads(line) for line in (run / "self_tests.jsonl").read_text().splitlines()]
    found = []
    for round in range(1, rounds + 1):
        here = [line for line in lines if line["round"] == round]
        passed = [np.array(line["passed"]) for line in here]
        pairs = len(pq.read_table(run / "rounds" / f"{round:03d}" / "judging.parquet"))
        found.append(
            {
                "round": round,
                "codes read": float(
                    np.mean([line["codes_read"] / len(p) for line, p in zip(here, passed, strict=True)])
                ),
                "tests read": float(
                    np.mean([line["tests_read"] / p.shape[1] for line, p in zip(here, passed, strict=True)])
                ),
                "passes": float(np.mean([p.mean() for p in passed])),
                "problems with a pair": pairs / len(here),
            }
        )
    return found


def small(given: argparse.Namespace) -> dict[str, Any]:
    oracle, before, after, made = str(world_folder("code") / "tests.yaml"), [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            out = Path(folder) / str(seed)
            eq.align(given.method, out=out, seed=seed, rounds=given.rounds, quiet=True)
            before.append(float(np.mean(passes(out, 0, oracle))))
            after.append(float(np.mean(passes(out, given.rounds, oracle))))
            made.append(own(out, given.rounds))
            print(seed, before[-1], after[-1], made[-1], flush=True)
    gain = interval(np.array(after)[:, None] - np.array(before)[:, None])
    return {"before": before, "after": after, "gain": [float(g[0]) for g in gain], "own": made}


def real(given: argparse.Namespace) -> dict[str, Any]:
    rows = problems(given.problems_file, given.problems + given.held_out)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, part in (
            ("train", rows[: given.problems]),
            ("held", rows[given.problems :]),
            ("all", rows),
        ):
            (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        oracle = folder / "tests.yaml"
        oracle.write_text("kind: tests\ntests: all.jsonl\nscore: all\n")
        settings = {
            "data.evaluation": [str(folder / "held.jsonl")],
            "codes": given.codes,
            "tests": given.tests,
            "lr": given.lr,
            "epochs": given.epochs,
            "train.batch": 2,
            "max_new_tokens": given.tokens,
            "temperature": 0.8,
            "evaluate.samples": given.samples,
            "data.max_length": 1024,
        }
        run = eq.align(
            given.method,
            model=given.model,
            data=str(folder / "train.jsonl"),
            oracle=str(oracle),
            rounds=given.rounds,
            out=given.out or folder / "run",
            settings=settings,
        ).folder
        before, after = (np.array(passes(run, round, str(oracle))) for round in (0, given.rounds))
        made = own(run, given.rounds)
    gain = interval((after - before)[:, None])
    return {
        "before": before.tolist(),
        "after": after.tolist(),
        "gain": [float(g[0]) for g in gain],
        "own": made,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("small", "real"))
    parser.add_argument("problems_file", nargs="?")
    parser.add_argument("--method", default="dstc")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model")
    parser.add_argument("--out", type=Path)
    for name, value in (("problems", 16), ("held-out", 16), ("codes", 4), ("tests", 4), ("samples", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=5e-6)
    given = parser.parse_args()
    found = small(given) if given.what == "small" else real(given)
    found |= {"command": command("dstc.py"), "machine": machine(), "versions": versions("transformers")}
    (HERE / "results" / f"dstc_{given.what}_{given.method}.json").write_text(
        json.dumps(found, indent=1) + "\n"
    )
    figures = [f"{np.mean(found['before']):.3f}", f"{np.mean(found['after']):.3f}"]
    header = ["pass@1 before", "after", "gain", "low", "high"]
    print(told(found), *table(header, [[*figures, *(f"{g:+.3f}" for g in found["gain"])]]), sep="\n")


if __name__ == "__main__":
    main()
