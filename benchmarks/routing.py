"""Routing on real labels: do people's labels, put where the predictor says, do more than as many put at random?

python benchmarks/routing.py PAIRS VERDICTS [--judge NAME] [--prompting NAME]

PAIRS is LLMBar's file of pairs (label: experts'), VERDICTS its table of judges' winners in both orders. The judge's
label is the mean of its winners in both orders and over runs, as P(the chosen answer wins). The subset of a pair is a
tag.

Set before the first run: 10 seeds, each of which divides the pairs into a pool that the predictor learns from and the
pairs to be routed, half each; budgets of a tenth, a quarter and a half of the latter; 200 mixes. What counts is the
share of right labels (of which people's are all, by definition), and the mean log-likelihood of their labels under the
small reward model that is trained on the mix, measured on the pool. Routing helps where the 95 % t-interval over
seeds of routed less random lies above 0. Random is the mean of 20 draws.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections import defaultdict

import numpy as np
from common import command, machine, table, told, versions

from equipoise.claims.claim import interval
from equipoise.oracles.hybrid.comparison_features import Binning, Comparison
from equipoise.oracles.hybrid.pool import Pool, fit_linear_reward, measure_of, word_differences
from equipoise.oracles.hybrid.routing import fit_predictor, simulate

SEEDS, MIXES, DRAWS = 10, 200, 20
BUDGETS = (0.1, 0.25, 0.5)


def pool(pairs: str, verdicts: str, judge: str, prompting: str) -> Pool:
    votes = defaultdict(list)
    with gzip.open(verdicts, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["judge"], row["prompting"]) == (judge, prompting):
                for order in ("winner_original_order", "winner_swapped_order"):
                    said = row[order]
                    votes[row["subset"], row["index"]].append(
                        0.5 if not said else float(said == row["gold_label"])
                    )
    comparisons, judged = [], []
    with gzip.open(pairs, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            found = votes.get((row["subset"], row["id"].rsplit("-", 1)[1]))
            if found:
                texts = [row[side][0]["content"] for side in ("chosen", "rejected")]
                prompt = "\n".join(turn["content"] for turn in row["prompt"])
                tags = {"subset": row["subset"]}
                comparisons.append(
                    Comparison(id=row["id"], prompt=prompt, first=texts[0], second=texts[1], tags=tags)
                )
                judged.append(sum(found) / len(found))
    return Pool(comparisons, [c.prompt for c in comparisons], np.array(judged))


def part(whole: Pool, rows: np.ndarray) -> Pool:
    return Pool([whole.comparisons[i] for i in rows], [whole.groups[i] for i in rows], whole.judged[rows])


def one_seed(whole: Pool, seed: int) -> dict[tuple[str, str, float], float]:
    order = np.random.default_rng(seed).permutation(len(whole.judged))
    known, target = (part(whole, rows) for rows in np.array_split(order, 2))
    binning = Binning.of(known.comparisons)
    phi, mine = binning.apply(known.comparisons), binning.apply(target.comparisons)
    words = [word_differences(p.comparisons) for p in (target, known)]

    def figures(people: np.ndarray) -> dict[str, float]:
        prob = np.where(people, 1.0, target.judged)
        weights = fit_linear_reward(words[0], prob)
        return {
            "right labels": float(prob.mean()),
            "log-likelihood": float(-np.logaddexp(0, -words[1] @ weights).mean()),
        }

    draw = np.random.default_rng([seed, 1])
    found = {}
    for measure, name in (("labels", "right labels"), ("reward", "log-likelihood")):
        fitted = fit_predictor(
            simulate(phi, measure_of(known, measure, seed), count=MIXES, seed=seed), seed=seed
        )
        found["R^2", name, 0.0] = np.nan if fitted.r_squared is None else fitted.r_squared
        for share in BUDGETS:
            budget = round(share * len(mine))
            routed = fitted.route(mine, budget, [c.id for c in target.comparisons], seed=seed)
            found["routed", name, share] = figures(routed)[name]
            picks = [
                np.isin(np.arange(len(mine)), draw.permutation(len(mine))[:budget]) for _ in range(DRAWS)
            ]
            found["random", name, share] = float(np.mean([figures(pick)[name] for pick in picks]))
        for who, everyone in (("judge alone", False), ("people alone", True)):
            found[who, name, 0.0] = figures(np.full(len(mine), everyone))[name]
    return found


def said(values: np.ndarray, signed: bool = False) -> str:
    mean, low, high = (float(x[0]) for x in interval(values[:, None]))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" if signed else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs")
    parser.add_argument("verdicts")
    parser.add_argument("--judge", default="ChatGPT")
    parser.add_argument("--prompting", default="Vanilla")
    given = parser.parse_args()
    whole = pool(given.pairs, given.verdicts, given.judge, given.prompting)
    runs = [one_seed(whole, seed) for seed in range(SEEDS)]
    found = {key: np.array([run[key] for run in runs]) for key in runs[0]}
    about = {"machine": machine(), "versions": versions("scipy"), "command": command("routing.py")}
    print(told(about), f"{len(whole.judged)} pairs judged by {given.judge} ({given.prompting}).\n")
    for name in ("right labels", "log-likelihood"):
        print(
            f"{name}: judge alone {said(found['judge alone', name, 0.0])}, people alone "
            f"{said(found['people alone', name, 0.0])}; the predictor's R^2 on mixes {said(found['R^2', name, 0.0])}\n"
        )
        rows = []
        for share in BUDGETS:
            routed, random = found["routed", name, share], found["random", name, share]
            gap = routed - random
            rows.append((f"{share:.0%}", said(routed), said(random), said(gap, signed=True)))
        print("\n".join(table(("people's share", "routed", "random", "routed less random"), rows)))


if __name__ == "__main__":
    main()
