"""Bradley-Terry, pairwise and general preference models that read texts: held-out log-loss on the same pairs.

    python benchmarks/reward_texts.py train [--data data] [--minutes 30]     further trainings
    python benchmarks/reward_texts.py table [--write]                                  of what was trained so far

The body is the model of 260,000 parameters, trained whole. Of each set the pairs are those that all three kinds can
read: prompt and both responses in one text have at most 256 tokens (pandalm, llmbar), or 1,024 (mt_bench, where hardly
a pair is shorter; the body, which was made for 512, has its context widened, by its configuration alone).

Rules, set before the first run: one pass in batches of 8 at the rate that `equipoise oracle train` takes for this size,
for every kind and set; general preferences have 4 coordinates of length 1 and temperature 1. Seed k of five holds out
the k-th fifth of the prompts and draws weights and order of its own, so that every pair is held out once; log 2 = 0.693
is what a coin gives. Intervals are 95 %, clustered by prompt; of differences to Bradley-Terry on the same pairs also
over seeds (t).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HERE, machine, said, table, versions, write_section

from equipoise.core.calibration import ranked_right
from equipoise.core.intervals import clustered_mean, clustered_share
from equipoise.data.reading.read import read
from equipoise.reward_models.fit import Fitting, fit
from equipoise.reward_models.head import Head
from equipoise.reward_models.losses import preference_loss
from equipoise.reward_models.pairs import LabelledPair, labelled
from equipoise.reward_models.read import pair_logits
from equipoise.reward_models.start import Beginning, begin
from equipoise.reward_models.train import automatic_rate

SEEDS = 5
SETS = {"llmbar": 256, "pandalm_human": 256, "mt_bench_human": 1024}
HEADS = {
    "Bradley-Terry": Head(),
    "pairwise": Head(kind="pair"),
    "general preference": Head(kind="gpm", dimension=4, temperature=1.0, scales=False, normalise=True),
}
TRAINED = HERE / "results" / "reward_texts.jsonl"


def started(data: Path, head: Head, seed: int, most: int) -> Beginning:
    """The body with a new head, and a context of at least so many tokens."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        shutil.copytree(data / "lm_stories260k", body)
        config = json.loads((body / "config.json").read_text())
        config["max_position_embeddings"] = max(most, config["max_position_embeddings"])
        (body / "config.json").write_text(json.dumps(config))
        return begin(body, head, seed=seed, max_length=most)


def readable(data: Path, name: str) -> dict[str, list[LabelledPair]]:
    """The pairs that every kind can read, in the same order, as each kind reads them."""
    file, most = data / name / "pairs.jsonl.gz", SETS[name]
    found = {
        kind: {p.id: p for p in labelled(read(file), started(data, head, 0, most).texts, head)}
        for kind, head in HEADS.items()
    }
    ids = [key for key in found["pairwise"] if all(key in own for own in found.values())]
    return {kind: [own[key] for key in ids] for kind, own in found.items()}


def in_cycle(pairs: Sequence[LabelledPair]) -> list[bool]:
    """Which pairs are part of a strict cycle of three responses to their prompt."""
    beaten: dict[tuple[str, str], set[str]] = {}
    sides = [(p.group, *((p.first, p.second) if p.prob[0] > 0.5 else (p.second, p.first))) for p in pairs]
    for group, winner, loser in sides:
        beaten.setdefault((group, winner), set()).add(loser)
    return [
        any(winner in beaten.get((group, third), ()) for third in beaten.get((group, loser), ()))
        for group, winner, loser in sides
    ]


def trained(data: Path, name: str, kind: str, seed: int, pairs: Sequence[LabelledPair]) -> dict[str, Any]:
    start = started(data, HEADS[kind], seed, SETS[name])
    names = np.unique([pair.group for pair in pairs], return_inverse=True)[1]
    fold = (np.random.default_rng(0).permutation(names.max() + 1) % SEEDS)[names]
    train = [pair for pair, own in zip(pairs, fold, strict=True) if own != seed]
    held = [pair for pair, own in zip(pairs, fold, strict=True) if own == seed]
    fitting = Fitting(lr=automatic_rate(start), epochs=1, batch=8, tokens=2048)
    fit(start.model, train, fitting=fitting, seed=seed)
    logit = pair_logits(start.model, held, fitting.tokens)[:, 0]
    prob = torch.tensor([pair.prob[0] for pair in held], dtype=torch.float64)
    return {
        "rate": fitting.lr,
        "train": len(train),
        "ids": [pair.id for pair in held],
        "groups": [pair.group for pair in held],
        "loss": preference_loss(logit, prob).tolist(),
        "right": ranked_right(logit.numpy(), prob.numpy()).tolist(),
        "cyclic": [own for own, part in zip(in_cycle(pairs), fold, strict=True) if part == seed],
    }


def stored() -> dict[tuple[str, str, int], dict[str, Any]]:
    rows = [json.loads(line) for line in TRAINED.read_text().splitlines()] if TRAINED.exists() else []
    return {(row["set"], row["model"], row["seed"]): row for row in rows}


def train(data: Path, minutes: float) -> None:
    end, done = time.time() + 60 * minutes, stored()
    pairs = {name: readable(data, name) for name in SETS}
    for name in SETS:
        for seed in range(SEEDS):
            for kind in HEADS:
                if time.time() > end:
                    return
                if (name, kind, seed) in done:
                    continue
                begun = time.time()
                row = {
                    "set": name,
                    "model": kind,
                    "seed": seed,
                    **trained(data, name, kind, seed, pairs[name][kind]),
                }
                with TRAINED.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                mean = np.mean(row["loss"])
                print(name, kind, seed, f"{mean:.3f}, {time.time() - begun:.0f} s", flush=True)


# --- the table


def rows_of(name: str, runs: dict[tuple[str, str, int], dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    seeds = [seed for seed in range(SEEDS) if all((name, kind, seed) in runs for kind in HEADS)]

    def joined(kind: str, what: str) -> np.ndarray:
        return np.array([x for seed in seeds for x in runs[name, kind, seed][what]])

    if not seeds:
        return
    groups, base = joined(HEAD, "groups"), joined(HEAD, "loss")
    cyclic = joined(HEAD, "cyclic").astype(bool)
    for kind in HEADS:
        loss = joined(kind, "loss")
        gaps = [np.mean(runs[name, kind, s]["loss"]) - np.mean(runs[name, HEAD, s]["loss"]) for s in seeds]
        yield (
            f"{name}, {len(loss)} pairs, {len(set(groups))} prompts" if kind == HEAD else "",
            kind,
            said(clustered_share(joined(kind, "right"), groups)),
            said(clustered_mean(loss, groups)),
            "" if kind == HEAD else said(clustered_mean(loss - base, groups), signed=True),
            "" if kind == HEAD else said(clustered_mean(gaps, seeds), signed=True),
            said(clustered_mean(loss[cyclic], groups[cyclic])) + f" ({cyclic.sum()})"
            if cyclic.any()
            else "-",
        )


HEAD = next(iter(HEADS))


def report() -> str:
    runs, about = stored(), machine()
    first = next(iter(runs.values()))
    made_of = ", ".join(f"{n} {v}" for n, v in versions("transformers").items())
    header = (
        "set",
        "model",
        "accuracy",
        "log-loss",
        "less Bradley-Terry's",
        "over seeds",
        "in cycles (pairs)",
    )
    lines = [
        f"{about['cpu']}, one thread; {made_of}. `python benchmarks/reward_texts.py train`, `table --write`; "
        f"rate {first['rate']:g}, {len(runs)} trainings.",
        "",
        *table(header, [row for name in SETS for row in rows_of(name, runs)]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("train", "table"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--write", action="store_true", help="the table into README.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "train":
        train(given.data, given.minutes)
    else:
        text = report()
        print(text)
        if given.write:
            write_section(text, "reward_texts.py")


if __name__ == "__main__":
    main()
