"""Does `equipoise diagnose` foretell and find likelihood displacement?

    python benchmarks/displacement.py verdicts [--seeds 10]
    python benchmarks/displacement.py steps --model NAME=FOLDER --data NAME=FILE ... [--pairs 100]
    python benchmarks/displacement.py filter --model NAME=FOLDER --data NAME=FILE ... [--pairs 400] [--seeds 5]
    python benchmarks/displacement.py --draw          (write the section of README.md again from the figures)

verdicts   runs on the playground of a method that displaces there and of one that does not, and what a diagnosis of
           each says. A verdict is right where it agrees with the run's own evaluation of its held-out pairs.
steps      real pairs under a real model: CHES, and how far a step of gradient descent on the pair's margin, at one rate
           for all pairs, lets the preferred response's log-prob fall, exactly to first order. CHES foretells
           displacement where the 95 % interval of their rank correlation (Fisher's z) lies above 0. Beside it the
           correlation with the fall for a nat of margin, which asks another question: how a pair's step is shared out.
filter     DPO, no setting given, on the half of the training pairs with the smallest CHES (what `--keep 0.5` leaves),
           on the half with the largest, and on a random half, of several draws of pairs. Filtering mitigates
           displacement where the paired 95 % t-interval over draws of (mean change of the preferred log-probs of its
           own pairs, smallest less random half) lies above 0.

The rules were written before the runs, but for one: a first try of `steps` on 30 pairs had a nat of margin alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, command, machine, table, versions, write_section
from scipy.stats import norm, spearmanr

import equipoise as eq
from equipoise.claims.claim import interval
from equipoise.data.convert import Account, convert
from equipoise.evaluate.diagnosis.gradient_entanglement import gradients
from equipoise.evaluate.diagnosis.hidden_similarity import ches, summed_states
from equipoise.evaluate.located import locate
from equipoise.evaluate.writer import Writer

RESULTS = HERE / "results" / "displacement.jsonl"
DISPLACES, KEEPS = "exo_pair", "ipo"  # on the playground, by benchmarks/objectives.py
HALVES = ("smallest", "random", "largest")


def verdicts(seeds: int) -> Iterator[dict[str, Any]]:
    for method in (DISPLACES, KEEPS):
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                run = eq.align(method, out=Path(folder) / "run", seed=seed, quiet=True)
                last = json.loads((run.folder / "evaluation.jsonl").read_text().splitlines()[-1])
                # of the last round, also where the run delivers an earlier one that kept to its support
                found = eq.diagnose(run.folder, gradients=0, round=str(last["round"]))
            said = next(one.title for one in found.findings if "displacement" in one.title.lower())
            moved = float(last["chosen_log_ratio"])
            truth = "Likelihood displacement" if moved < -0.1 else "No likelihood displacement"
            yield {
                "part": "verdicts",
                "method": method,
                "seed": seed,
                "moved": moved,
                "said": said,
                "right": said == truth,
            }


def steps(model: tuple[str, Path], data: tuple[str, Path], pairs: int) -> dict[str, Any]:
    """CHES of pairs, and how far a step on each one's margin lets its preferred log-prob fall."""
    writer = Writer.load(locate(str(model[1])))
    _, comparisons = writer.comparisons(eq.read(data[1], limit=pairs, seed=0))
    raw, normalised = ches(summed_states(writer.policy, comparisons))
    found = gradients(writer.policy, comparisons)
    better, worse = found.moves()
    return {
        "part": "steps",
        "model": model[0],
        "data": data[0],
        "pairs": len(better),
        "falls": float((better < 0).mean()),
        "summed": _correlation(raw, -better),
        "normalised": _correlation(normalised, -better),
        "of_margin": _correlation(normalised, -better / (better - worse)),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Spearman's correlation with its 95 % interval by Fisher's z, variance 1.06/(n - 3)."""
    value = float(spearmanr(a, b).statistic)
    half = norm.ppf(0.975) * np.sqrt(1.06 / (len(a) - 3))
    return {
        "value": value,
        "low": float(np.tanh(np.arctanh(value) - half)),
        "high": float(np.tanh(np.arctanh(value) + half)),
    }


def filtering(model: tuple[str, Path], data: tuple[str, Path], pairs: int, seed: int) -> dict[str, Any]:
    """Mean change of both log-probs of the trained pairs, by the half that is trained on."""
    writer = Writer.load(locate(str(model[1])))
    drawn = eq.read(data[1], limit=pairs, seed=seed)
    rendered, comparisons = writer.comparisons(drawn)
    _, score = ches(summed_states(writer.policy, comparisons))
    order = np.argsort(score, kind="stable")
    half = len(order) // 2
    chosen = {
        "smallest": order[:half],
        "largest": order[-half:],
        "random": np.random.default_rng(seed).permutation(len(order))[:half],
    }
    found: dict[str, Any] = {
        "part": "filter",
        "model": model[0],
        "data": data[0],
        "seed": seed,
        "pairs": half,
    }
    for name in HALVES:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pairs.jsonl"
            kept = eq.read([_row(drawn, rendered[i].record) for i in sorted(chosen[name].tolist())])
            file.write_text("".join(json.dumps(row) + "\n" for row in convert(kept, "jsonl", Account())))
            settings = {"data.held_out": 0.1, "evaluate.prompts": 4, "evaluate.samples": 1}
            run = eq.align(
                "dpo",
                model=model[1],
                data=file,
                out=Path(folder) / "run",
                seed=seed,
                settings=settings,
                quiet=True,
            )
            moved = eq.diagnose(model[1], file, trained=run.checkpoint, gradients=0).figures["displacement"]
        found[name] = {key: moved[key]["value"] for key in ("chosen", "rejected", "displaced")}
    return found


def _row(dataset: Any, record: Any) -> dict[str, Any]:
    return next(iter(convert(replace(dataset, records=(record,)), "jsonl", Account())))


def draw() -> None:
    """The section of README.md."""
    found = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    parts = {part: [one for one in found if one["part"] == part] for part in ("verdicts", "steps", "filter")}
    lines: list[str] = []
    if parts["verdicts"]:
        rows = []
        for method in (DISPLACES, KEEPS):
            mine = [one for one in parts["verdicts"] if one["method"] == method]
            moved = [one["moved"] for one in mine]
            rows.append(
                (method, f"{len(mine)}", f"{np.median(moved):+.2f} ({min(moved):+.2f} to {max(moved):+.2f})",
                 f"{sum(one['right'] for one in mine)}", f"{sum('undecided' in one['said'] for one in mine)}")
            )  # fmt: skip
        lines += table(("run", "seeds", "preferred log-prob, nats", "verdicts right", "undecided"), rows)
    if parts["steps"]:
        header = (
            "model, pairs",
            "pairs",
            "preferred falls",
            "CHES per token",
            "summed CHES",
            "for a nat of margin",
        )
        kinds = ("normalised", "summed", "of_margin")
        rows = [
            (
                f"{o['model']}, {o['data']}",
                f"{o['pairs']}",
                f"{o['falls']:.0%}",
                *(_interval(o[k]) for k in kinds),
            )
            for o in parts["steps"]
        ]
        lines += table(header, rows)
    if parts["filter"]:
        keys = dict.fromkeys((o["model"], o["data"]) for o in parts["filter"])
        lines += table(
            (
                "model, pairs",
                "draws",
                *(f"preferred, {name} half" for name in HALVES),
                "smallest less random, paired",
            ),
            [_filtered(key, parts["filter"]) for key in keys],
        )
    write_section("\n".join(lines).rstrip(), "displacement.py")


def _filtered(key: tuple[str, str], found: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    mine = [one for one in found if (one["model"], one["data"]) == key]
    changes = {name: np.array([one[name]["chosen"] for one in mine]) for name in HALVES}
    gain = changes["smallest"] - changes["random"]
    said = f"{gain.mean():+.2f}"
    if len(gain) > 1:
        mean, low, high = interval(gain)
        said = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
    return (", ".join(key), f"{len(mine)}", *(f"{values.mean():+.2f}" for values in changes.values()), said)


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def keep(one: dict[str, Any]) -> None:
    """Add a line of figures in the place of an earlier one of the same kind."""
    names = ("part", "model", "data", "method", "seed")
    known = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    others = [old for old in known if [old.get(n) for n in names] != [one.get(n) for n in names]]
    one |= {"command": command("displacement.py"), "machine": machine(), "versions": versions("transformers")}
    RESULTS.write_text("".join(f"{json.dumps(line)}\n" for line in [*others, one]))
    print(
        json.dumps({k: v for k, v in one.items() if k not in ("machine", "versions", "command")}), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("verdicts", "steps", "filter"))
    parser.add_argument("--model", metavar="NAME=FOLDER")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--draw", action="store_true")
    asked = parser.parse_args()
    if asked.draw:
        draw()
        return
    if asked.part == "verdicts":
        for one in verdicts(asked.seeds or 10):
            keep(one)
        return
    name, _, folder = asked.model.partition("=")
    for label, _, file in (one.partition("=") for one in asked.data):
        model, data = (name, Path(folder)), (label, Path(file))
        if asked.part == "steps":
            keep(steps(model, data, asked.pairs or 100))
        else:
            for seed in range(asked.seeds or 5):
                keep(filtering(model, data, asked.pairs or 400, seed))


if __name__ == "__main__":
    main()
