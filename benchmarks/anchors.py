"""Anchor log-probs: what their store saves in a round, and what a live reference model costs instead.

python benchmarks/anchors.py           measure, write results/anchors.json, then the section of README.md
python benchmarks/anchors.py --draw    write the section again from the figures that are there

A round like SPAC's: pairs with an own response each, some frozen policies, one or more epochs. With the store every
frozen policy scores the round once and all epochs read it; without, each has a copy in memory that scores every batch
when it comes.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import (
    HERE,
    SHAPES,
    command,
    fit_of,
    groups_of,
    machine,
    policy_of,
    rows_of,
    seconds,
    table,
    told,
    versions,
    write_section,
)

from equipoise.core.objectives import Dpo, Spac, Tdpo2
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.anchor_store import AnchorStore, score
from equipoise.policy.scoring.live_reference import FrozenReference
from equipoise.policy.scoring.microbatch import Comparison
from equipoise.worlds.text.fit import Fit
from equipoise.worlds.text.scoring.live_scoring import LiveScoring

RESULTS = HERE / "results" / "anchors.json"
SHAPE, COUNT, BATCH, STEPS = SHAPES["5M"], 16, 8, 4
ROUNDS = ((1, 1), (1, 3), (2, 1), (2, 3), (3, 3))  # frozen policies, epochs


def pairs_of(groups: Any) -> list[Comparison]:
    rows = rows_of(groups)
    return [(p.ids, list(group)) for p, group in zip(rows.prompts, rows.responses, strict=True)]


def frozen(policy: CausalPolicy) -> CausalPolicy:
    other = copy.copy(policy)
    other.scorer = copy.deepcopy(policy.scorer)
    other.model = other.scorer.model
    return other


def play(count: int, epochs: int) -> dict[str, Any]:
    """Seconds of processor time of one round each way."""
    groups = groups_of(COUNT, 130, 50, 3, SHAPE.words, spread=0.6)
    pairs, policy = pairs_of(groups), policy_of(SHAPE)
    others = [frozen(policy) for _ in range(count)]
    known = {"previous": score(policy, pairs, BATCH)[0]}
    fit = fit_of(policy, groups, Spac(), batch=BATCH, anchors=known)
    steps = epochs * fit.per_epoch
    fit.step()

    def cached(store: AnchorStore) -> None:
        for number, other in enumerate(others):
            store.get(str(number), pairs, partial(score, other, pairs, BATCH))

    def live() -> None:
        for step in range(steps):
            begin = step % fit.per_epoch * BATCH
            for other in others:
                score(other, pairs[begin : begin + BATCH], BATCH)

    with tempfile.TemporaryDirectory() as name:
        store = AnchorStore(Path(name))
        scoring, reading = seconds(lambda: cached(store)), seconds(lambda: cached(store))
    fitting = seconds(lambda: [fit.step() for _ in range(steps)])
    found = {"with": scoring + fitting, "without": seconds(live) + fitting, "again": reading + fitting}
    print(count, epochs, found, file=sys.stderr)
    # a frozen policy's pass is a third of a step's
    paper = (epochs * (1 + count / 3)) / (epochs + count / 3)
    return {"frozen": count, "epochs": epochs, "reading": reading, "seconds": found, "paper": paper}


def references() -> dict[str, list[float]]:
    """Seconds of steps that differ in how the reference is known, one of each in turn."""
    groups = groups_of(BATCH, 130, 50, 2, SHAPE.words, spread=0.6)
    pairs = pairs_of(groups)

    def fit(objective: Any = None, *, packed: bool = True, live: bool = False) -> Fit:
        policy = policy_of(SHAPE)
        if not packed:
            policy.scorer.max_packed_length = 0
        if not live:
            return fit_of(policy, groups, objective or Dpo(beta=0.1))
        scoring = LiveScoring(policy, objective, frozen={"reference": FrozenReference(policy)})
        anchors = {"reference": score(policy, pairs, BATCH, tokens=True)[0]}
        return fit_of(policy, groups, objective, scoring=scoring, anchors=anchors)

    packed, padded, whole = fit(), fit(packed=False), fit(Tdpo2(), live=True)
    other = frozen(packed.policy)
    steps = {
        "cached log-probs": packed.step,
        "live log-probs": lambda: (score(other, pairs, BATCH), packed.step()),
        "cached log-probs, padded rows": padded.step,
        "live next-token distributions (TDPO2), padded rows": whole.step,
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(STEPS + 1):
        for name, step in steps.items():
            taken = seconds(step)
            if number:
                found[name].append(taken)
    return found


def section(found: dict[str, Any]) -> str:
    rows = [
        (
            str(r["frozen"]),
            str(r["epochs"]),
            *(f"{r['seconds'][way]:.2f}" for way in ("without", "with", "again")),
            f"**{r['seconds']['without'] / r['seconds']['with']:.2f}**",
            f"{r['paper']:.2f}",
        )
        for r in found["rounds"]
    ]
    first = next(iter(found["references"].values()))
    reference_rows = []
    for name, times in found["references"].items():
        ratios = [a / b for a, b in zip(times, first, strict=True)]
        spread = f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"
        reference_rows.append((name, f"{1e3 * statistics.median(times):,.0f}", spread))
    header = (
        "frozen policies",
        "epochs",
        "without the store",
        "with it",
        "resumed",
        "without / with",
        "FLOPs",
    )
    lines = [
        told(found)
        + f" Processor time; 5M parameters, {COUNT} prompts with two recorded responses and an own one, lengths "
        "drawn around those of dialogues.",
        "",
        "Seconds of a round's anchors and fit. 'Resumed' finds its anchors in the store:",
        "",
        *table(header, rows),
        "With one epoch the store saves nothing within a round: it pays with every further epoch, when a run is "
        "resumed, and in memory, for no frozen policy stands beside the one that trains. A step on 8 pairs, by "
        "how the reference is known:",
        "",
        *table(("reference", "ms a step", "over cached"), reference_rows),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if "--draw" not in sys.argv[1:]:
        found: dict[str, Any] = {"command": command("anchors.py")}
        found |= {"rounds": [play(*case) for case in ROUNDS], "references": references()}
        found |= {"machine": machine(), "versions": versions("transformers", "accelerate")}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    write_section(section(json.loads(RESULTS.read_text())), "anchors.py")
