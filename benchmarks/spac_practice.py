"""SPAC with the defaults that are shipped, round by round, beside other ways to learn from the same recorded pairs.

python benchmarks/spac_practice.py exact                 bandits, every fit minimised exactly; some minutes
python benchmarks/spac_practice.py align FOLDER          `equipoise align spac` on the playground; an hour on one core
python benchmarks/spac_practice.py --draw                the tables of README.md again, from the figures

Set before the first run, with SPAC's defaults frozen (b = sqrt(T/3), lambda = sqrt(n), T = 3, last iterate):

Families and methods are those of the claim `spac_shipped_defaults` (`equipoise.claims.coverage.offline_families`): n =
100, 400 and 1,600 pairs, 40 data sets each, on `uniform`, `lucky` and `narrow` and on two that were invented for this
table, `hasty` and `chain`. SPAC is `get("spac").for_size` at n comparisons, after each round, and with T = 12. DPO,
chi-PO and RPO have the parameters that are best on the true rewards of these very data sets, which no user can choose;
LCB takes the arm of the largest r(y) - 2 s(y), with s the standard error of the maximum-likelihood reward.

Rule. Loss is the true reward lost against the best arm. (1) Support: in no data set does SPAC write the arms that the
data do not hold with a probability more than 0.05 above the reference's. (2) Rounds: nowhere does the 95 % t-interval
of a round's loss less that of the round before, data set by data set, lie above 0. (3) SPAC after the last round is
better (worse) than a method where the interval of their difference lies below (above) 0; this is counted, not judged.
For `align`, six seeds for each coverage: (1) no run leaves the reference's support; (2) as above, of exact win rates.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HERE, command, machine, table, told, versions, write_section

from equipoise.claims.coverage.offline_families import FAMILIES, NS, draw, losses
from equipoise.claims.coverage.spac_shipped import Found, counted, difference, rounds_worse

SEEDS = 40
ALIGN_SEEDS, COVERAGES = 6, ("uniform", "lucky", "narrow")
RESULTS = HERE / "results" / "spac_practice.json"
ALIGNED = HERE / "results" / "spac_practice_align.json"


def middle(values: np.ndarray) -> tuple[float, float, float]:
    """The median and its 95 % interval, by order statistics."""
    from scipy.stats import binom

    rank = int(binom.ppf(0.025, len(values), 0.5))
    ordered = np.sort(values)
    return float(np.median(values)), float(ordered[max(rank - 1, 0)]), float(ordered[-max(rank, 1)])


def exact() -> dict[str, Any]:
    found = []
    for family in FAMILIES:
        for n in NS:
            by_method, left = losses(draw(family, n, SEEDS))
            found.append(
                {
                    "family": family.name,
                    "n": n,
                    "left": left,
                    "lost": {k: np.round(v, 6).tolist() for k, v in by_method.items()},
                }
            )
            print(
                family.name,
                n,
                f"{left:.3f}",
                {k: round(float(np.median(v)), 3) for k, v in by_method.items()},
            )
    return about() | {"found": found}


def about() -> dict[str, Any]:
    return {
        "machine": machine(),
        "versions": versions("numpy", "scipy"),
        "command": command("spac_practice.py"),
    }


def drawn_exact(results: dict[str, Any]) -> str:
    found = results["found"]
    lines = [
        told(results),
        "",
        "Reward lost over 40 data sets, the median with its 95 % interval, and the mean:",
        "",
    ]
    names = list(found[0]["lost"])

    def shown(values: list[float]) -> str:
        at, low, high = middle(np.array(values))
        return f"{at:.3f} ({low:.3f} to {high:.3f}), {np.mean(values):.3f}"

    for n in NS:
        rows = [r for r in found if r["n"] == n]
        lines += [f"n = {n:,}:", ""]
        lines += table(
            ("method", *(r["family"] for r in rows)),
            [(name, *(shown(r["lost"][name]) for r in rows)) for name in names],
        )
        lines.append("")
    all_found = [
        Found(r["family"], r["n"], {k: np.array(v) for k, v in r["lost"].items()}, r["left"]) for r in found
    ]
    worse = [text for one in all_found for text in rounds_worse(one)]
    beaten = {name: counted(all_found, name) for name in names if not name.startswith("SPAC")}
    left = max(r["left"] for r in found)
    against = ", ".join(f"{name} {better}/{bad}" for name, (better, bad) in beaten.items())
    lines += [
        f"Support: at most {left:.3f} above the reference on arms that the data do not hold; the rule allows 0.05.",
        f"Rounds worse than the one before, of {2 * len(found)}: {'; '.join(worse) or 'none'}.",
        f"SPAC after round 3 is better/worse, beyond the interval, of {len(found)} families and n, than: {against}.",
    ]
    return "\n".join(lines)


def align(folder: Path) -> None:
    """Plays the runs that the results lack; the results are written after each."""
    import equipoise as eq

    found = json.loads(ALIGNED.read_text())["found"] if ALIGNED.exists() else []
    measured = {(one["coverage"], one["seed"]) for one in found}
    for seed in range(ALIGN_SEEDS):
        for coverage in COVERAGES:
            if (coverage, seed) in measured:
                continue
            run = eq.align(
                "spac",
                out=folder / f"spac-{coverage}-{seed}",
                seed=seed,
                settings={"data.coverage": coverage},
                quiet=True,
            )
            lines = [json.loads(line) for line in (run.folder / "evaluation.jsonl").read_text().splitlines()]
            kept = (
                "round",
                "exact_win_rate",
                "exploitability",
                "exact_kl",
                "outside",
                "surprisal",
                "finished",
            )
            found.append(
                {
                    "coverage": coverage,
                    "seed": seed,
                    "delivered": run.summary["delivered"],
                    "left_support": run.summary.get("left_support"),
                    "rounds": [{name: line[name] for name in kept} for line in lines],
                }
            )
            told_by = {"command": "python benchmarks/spac_practice.py align"}  # whatever the folder
            ALIGNED.write_text(json.dumps(about() | told_by | {"found": found}, indent=1) + "\n")
            print(coverage, seed, [round(line["exact_win_rate"], 3) for line in lines], flush=True)


def drawn_align(results: dict[str, Any]) -> str:
    found = results["found"]
    lines = [
        told(results),
        "",
        "Exact win rate against the reference after each round, the median over seeds (least to most); the most mass "
        "outside the grammar of any seed and round; the runs that left the support:",
        "",
    ]
    rows, worse = [], []
    rounds = max(len(r["rounds"]) for r in found)
    for coverage in COVERAGES:
        mine = [r for r in found if r["coverage"] == coverage]
        if not mine:
            continue
        reached = [[r["rounds"] for r in mine if len(r["rounds"]) > t] for t in range(rounds)]
        rate = [
            np.array([[line["exact_win_rate"] for line in run[: t + 1]] for run in runs])
            for t, runs in enumerate(reached)
        ]
        gap = np.array([r["rounds"][r["delivered"]]["exploitability"] for r in mine])
        outside = max(line["outside"] for r in mine for line in r["rounds"])
        rows.append(
            (
                coverage,
                str(len(mine)),
                *(spread(of[:, -1], 100) if len(of) else "–" for of in rate[1:]),
                spread(gap, 1, 3),
                f"{outside:.2%}",
                str(sum(r["left_support"] is not None for r in mine)),
            )
        )
        for t, of in enumerate(rate[2:], start=2):
            if len(of) < 2:
                continue  # no interval
            mean, _, high = difference(of[:, t], of[:, t - 1])
            if high < 0:
                worse.append(f"{coverage}, round {t} ({100 * mean:+.1f} points)")
    header = (
        "coverage",
        "seeds",
        *(f"round {t}, %" for t in range(1, rounds)),
        "exploitability",
        "outside",
        "left",
    )
    lines += table(header, rows)
    lines += ["", f"Rounds worse than the one before: {'; '.join(worse) or 'none'}."]
    return "\n".join(lines)


def spread(values: np.ndarray, scale: float, digits: int = 1) -> str:
    low, at, high = (scale * f(values) for f in (np.min, np.median, np.max))
    return f"{at:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("exact", "align"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/spac_practice"))
    parser.add_argument("--draw", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "exact":
        RESULTS.write_text(json.dumps(exact(), indent=1) + "\n")
    if given.what == "align":
        align(given.folder)
    if RESULTS.exists():
        write_section(drawn_exact(json.loads(RESULTS.read_text())), "spac_practice.py exact")
    if ALIGNED.exists():
        write_section(drawn_align(json.loads(ALIGNED.read_text())), "spac_practice.py align")


if __name__ == "__main__":
    main()
