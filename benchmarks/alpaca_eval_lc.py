"""Length-controlled win rates of public AlpacaEval 2 annotations, against the figures of its leaderboard.

    python benchmarks/alpaca_eval_lc.py --repo path/to/alpaca_eval

`--repo` is a clone of github.com/tatsu-lab/alpaca_eval (a bare one will do). Two inputs of the benchmark's fit are not
in that repository but on the Hugging Face hub, and are recovered from what is published in it:

* the difficulty of the 805 prompts, from the fitted preferences and coefficients of one model (--difficulty-from):
  gamma_i = (logit p_i - theta) / psi;
* the preferences for the two gamed baselines. The fit reads them through two sums alone, sum_i p_i tanh(d_i) and
  sum_i p_i gamma_i, which the optimality conditions of one published fit give (--gamed-from); their answers, and so
  their lengths, are in the repository. The fold losses of the cross-validation also read them; there any preferences
  with these sums stand for them.

Both models are left out of the table: the other rows are predictions. AlpacaEval finds a prompt's difficulty by the
number of its row, also where rows are missing; so does this program.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import root

from equipoise.evaluate.length_control import GAMED_WEIGHT, Gamed, length_controlled, standardised

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
BASELINE = "gpt4_1106_preview"
WEIGHTS = f"src/alpaca_eval/metrics/weights/{ANNOTATOR}/length_controlled_v1/baseline_{BASELINE}.csv"
DIFFICULTY = f"results/vicuna-7b-v1.5/{ANNOTATOR}/{ANNOTATOR}/annotations.json"
BOARD = f"src/alpaca_eval/leaderboards/data_AlpacaEval_2/{ANNOTATOR}_leaderboard.csv"


class Repository:
    """Files of the newest commit of a git repository; files that a partial clone lacks are None."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *words: str) -> bytes | None:
        done = subprocess.run(["git", "-C", str(self.path), *words], capture_output=True, check=False)
        return None if done.returncode else done.stdout

    def json(self, path: str) -> Any:
        found = self.git("show", f"HEAD:{path}")
        return None if found is None else json.loads(found)

    def table(self, path: str) -> dict[str, list[str]]:
        text = (self.git("show", f"HEAD:{path}") or b"").decode()
        return {row[0]: row[1:] for row in csv.reader(io.StringIO(text))}

    def annotated(self) -> list[str]:
        names = (self.git("ls-tree", "-r", "--name-only", "HEAD", "results") or b"").decode().splitlines()
        return sorted(name.split("/")[1] for name in names if name.endswith(f"/{ANNOTATOR}/annotations.json"))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -z))


def preferences(rows: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P(candidate wins), characters of the baseline, of the candidate)."""
    coded = np.array([np.nan if r["preference"] is None else r["preference"] for r in rows], float)
    coded[coded == 0] = 1.5
    lengths = [np.array([len(r[side]) for r in rows], float) for side in ("output_1", "output_2")]
    return coded - 1, lengths[0], lengths[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, required=True)
    parser.add_argument("--difficulty-from", default=DIFFICULTY, help="annotations with `glm_preference`")
    parser.add_argument("--gamed-from", default="alpaca-7b")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    repo = Repository(asked.repo)
    weights = {m: [float(v) for v in row] for m, row in repo.table(WEIGHTS).items() if m}
    board = repo.table(BOARD)
    column = board[""].index("length_controlled_winrate")
    published = {m: float(row[column]) for m, row in board.items() if m}

    known = repo.json(asked.difficulty_from)
    source = known[0]["generator_2"]
    fitted = np.array([row["glm_preference"] for row in known])
    _, psi, theta = weights[source]
    gamma = (np.log(fitted / (1 - fitted)) - theta) / psi
    order = [row["instruction"] for row in known]

    there = [m for m in weights if m in published]
    errors = [abs(100 * sigmoid(weights[m][2] + weights[m][1] * gamma).mean() - published[m]) for m in there]
    print(
        f"prediction alone, from published coefficients: {sum(e < 0.1 for e in errors)} of {len(errors)} models "
        f"within 0.1 points, median difference {np.median(errors):.1e}"
    )

    length = {m: {r["instruction"]: len(r["output"]) for r in repo.json(f"results/{m}/model_outputs.json")}
              for m in (BASELINE, f"{BASELINE}_verbose", f"{BASELINE}_concise")}  # fmt: skip
    first = np.array([length[BASELINE][i] for i in order], float)
    delta = np.concatenate(
        [
            standardised(first, np.array([length[f"{BASELINE}_{how}"][i] for i in order], float))
            for how in ("verbose", "concise")
        ]
    )
    features = np.column_stack([np.tanh(delta), np.tile(gamma, 2)])

    prob, one, two = preferences(repo.json(f"results/{asked.gamed_from}/{ANNOTATOR}/annotations.json"))
    phi, psi, theta = weights[asked.gamed_from]
    own = np.column_stack([np.ones(len(prob)), np.tanh(standardised(one, two)), gamma])
    slope = own.T @ (sigmoid(own @ [theta, phi, psi]) - prob)
    c = -np.sign(theta) / slope[0]  # theta's own optimality condition
    sums = slope[1:] + np.sign([phi, psi]) / c
    sums = sums / GAMED_WEIGHT + features.T @ sigmoid(features @ [phi, psi])
    found = root(lambda v: features.T @ sigmoid(features @ v) - sums, np.zeros(2))
    print(f"gamed baselines: C = {c:.3g} in {asked.gamed_from}'s fit, sums {sums.round(2).tolist()}")
    gamed = Gamed(prob=sigmoid(features @ found.x), delta=delta, difficulty=np.tile(gamma, 2))

    table = []
    for model in repo.annotated():
        rows = None if model not in published else repo.json(f"results/{model}/{ANNOTATOR}/annotations.json")
        if rows is None or model in (BASELINE, source, asked.gamed_from):
            continue
        prob, one, two = preferences(rows)
        got = length_controlled(prob, one, two, difficulty=gamma[: len(rows)], gamed=gamed)
        plain = length_controlled(prob, one, two)
        line = {
            "model": model,
            "rows": len(rows),
            "win_rate": 100 * float(np.nanmean(prob)),
            "published": published[model],
            "ours": 100 * got.value,
            "minimal": 100 * plain.value,
            "standard_error": 100 * got.standard_error,
        }
        table.append(line)
        print(
            f"{model:40s} {len(rows)} rows  win rate {line['win_rate']:6.2f}  published LC {line['published']:6.2f}  "
            f"ours {line['ours']:6.2f}  minimal {line['minimal']:6.2f}",
            flush=True,
        )
    off = np.array([abs(line["ours"] - line["published"]) for line in table])
    print(
        f"{(off < 0.1).sum()} of {len(off)} within 0.1 points; largest difference {off.max():.3f}, median "
        f"{np.median(off):.4f}; minimal form: largest {max(abs(t['minimal'] - t['published']) for t in table):.2f}"
    )
    if asked.json:
        asked.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
