"""Bradley-Terry, general preference and pairwise models on cycles and on round robins: held-out accuracy, log-loss.

    python benchmarks/reward_models.py cycle|items [--seeds 5] [--data data]

cycle     three answers that beat each other in a circle, whatever the prompt; accuracy on prompts that were held out
items     round robins without text: a model has a reward, an embedding or a table entry for each system; log-loss on
          held-out prompts (oasst953, vicuna80, pandalm) or held-out pairs (soccer, pokemon), of all pairs and of those
          that are part of a cyclic triple

`reward_texts.py` has models that read real answers, `reward_bodies.py` and `noisy_labels.py` noisy labels.

Rules, set before the runs: the same body, rate, epochs and split for every kind; the split is the seed's; log 2 = 0.693
is what a coin gives. Intervals are 95 %: over seeds (t) where there are several, clustered by prompt (or pair) else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equipoise.core.intervals import clustered_mean
from equipoise.core.links import skew_score
from equipoise.data.reading.read import read
from equipoise.reward_models.fit import Fitting, fit
from equipoise.reward_models.head import Head
from equipoise.reward_models.losses import preference_loss
from equipoise.reward_models.measure import held_out
from equipoise.reward_models.start import begin
from equipoise.reward_models.train import parts

HEADS = {
    "bt": Head(),
    "pair": Head(kind="pair"),
    "gpm": Head(kind="gpm", dimension=4, temperature=1.0),
}
ANSWERS = ("The rock was hard.", "The paper was big.", "The scissors were sharp.")
PLACES = ("park", "forest", "house", "garden", "shop", "river", "school", "hill")
NAMES = ("Tom", "Lily", "Ben", "Sue", "Max", "Mia")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("cycle", "items"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    part = cycle if arguments.part == "cycle" else items
    for row in part(arguments.data, arguments.seeds):
        print(json.dumps(row), flush=True)


def trained(body: Path, files: Any, head: Head, seed: int, fitting: Fitting) -> dict[str, Any]:
    """Held-out figures of a model that is trained on some files."""
    start = begin(body, head, seed=seed, max_length=512)
    train, held = parts(start, read(files), share=0.3, seed=seed)
    fit(start.model, train, fitting=fitting, seed=seed)
    return held_out(start.model, held)


def over_seeds(figures: list[dict[str, Any]], name: str) -> dict[str, Any]:
    values = [row[name]["value"] for row in figures]
    return dict(clustered_mean(values, list(range(len(values)))))


def cycle(data: Path, seeds: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cycle.jsonl"
        prompts = [f"{name} went to the {place}. " for name in NAMES for place in PLACES]
        rows = [
            {"prompt": prompt, "chosen": ANSWERS[i], "rejected": ANSWERS[(i + 1) % 3]}
            for prompt in prompts
            for i in range(3)
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for kind, head in HEADS.items():
            fitting = Fitting(lr=3e-3, epochs=8, batch=12, schedule="constant")
            found = [trained(data / "lm_stories260k", file, head, seed, fitting) for seed in range(seeds)]
            yield {
                "set": "cycle",
                "model": kind,
                "accuracy": over_seeds(found, "accuracy"),
                "log_loss": over_seeds(found, "log_loss"),
            }


# items --------------------------------------------------------------------------------------------


def items(data: Path, seeds: int) -> Iterator[dict[str, Any]]:
    for name in ("judge_roundrobin_oasst953", "judge_roundrobin_vicuna80", "pandalm_human"):
        stored = np.load(data / name / "preference_tensor.npz")["prob"]
        yield from by_prompt(name, stored, seeds)
    for name in ("mujoco_soccer", "pokemon_types"):
        payoff = np.load(data / "games" / f"{name}.npz")["payoff"]
        yield from by_pair(name, (1 + payoff) / 2)


def rows_of(prob: np.ndarray) -> np.ndarray:
    """[(prompt, i, j, p)] of all compared pairs i < j."""
    size = prob.shape[-1]
    return np.array(
        [
            (x, i, j, prob[x, i, j])
            for x in range(len(prob))
            for i, j in combinations(range(size), 2)
            if np.isfinite(prob[x, i, j])
        ]
    )


def cyclic_pairs(prob: np.ndarray) -> set[tuple[int, int, int]]:
    """(prompt, i, j) of pairs that are part of a strict cycle of three."""
    found = set()
    for x, own in enumerate(prob):
        beats = np.nan_to_num(own, nan=0.5) > 0.5
        for a, b, c in combinations(range(len(own)), 3):
            for i, j, k in ((a, b, c), (a, c, b)):
                if beats[i, j] and beats[j, k] and beats[k, i]:
                    found |= {(x, *sorted(pair)) for pair in ((i, j), (j, k), (k, i))}
    return found


def fitted(kind: str, size: int, rows: np.ndarray, seed: int) -> np.ndarray:
    """Logits [size, size] that i beats j, of an item model: ridge 0.02 on its parameters, the best of its full fit."""
    draw = torch.Generator().manual_seed(seed)
    shape = {"bt": (size, 1), "gpm2": (size, 2), "gpm4": (size, 4), "pair": (size, size)}[kind]
    own = (0.5 * torch.randn(shape, generator=draw, dtype=torch.float64)).requires_grad_()
    i, j = (torch.tensor(rows[:, column].astype(int)) for column in (1, 2))
    prob = torch.tensor(rows[:, 3])

    def table() -> torch.Tensor:
        if kind == "bt":
            return own[:, 0, None] - own[None, :, 0]
        return own - own.T if kind == "pair" else skew_score(own[:, None], own[None, :])

    optimizer = torch.optim.LBFGS([own], max_iter=500, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = preference_loss(table()[i, j], prob).mean() + 0.02 * own.square().sum() / len(rows)
        loss.backward()
        return loss

    optimizer.step(step)
    return table().detach().numpy()


KINDS = ("bt", "pair", "gpm2", "gpm4")


def by_prompt(name: str, prob: np.ndarray, seeds: int) -> Iterator[dict[str, Any]]:
    """Five folds of prompts, so that each prompt is held out once; `seeds` divisions into folds."""
    rows, cyclic = rows_of(prob), cyclic_pairs(prob)
    within = np.array([(int(x), int(i), int(j)) in cyclic for x, i, j, _ in rows])
    for kind in KINDS:
        losses = np.zeros(len(rows))
        for seed in range(seeds):
            fold = np.random.default_rng(seed).permutation(len(prob)) % 5
            for part in range(5):
                out = fold[rows[:, 0].astype(int)] == part
                losses[out] += loss_of(fitted(kind, prob.shape[-1], rows[~out], seed), rows[out]) / seeds
        yield summary(name, kind, losses, rows[:, 0], within)


def by_pair(name: str, prob: np.ndarray) -> Iterator[dict[str, Any]]:
    """Ten folds of pairs; a table has no entry for a pair that is held out, and says 1/2."""
    rows, cyclic = rows_of(prob[None]), cyclic_pairs(prob[None])
    within = np.array([(0, int(i), int(j)) in cyclic for _, i, j, _ in rows])
    fold = np.random.default_rng(0).permutation(len(rows)) % 10
    for kind in KINDS:
        losses = np.zeros(len(rows))
        for part in range(10):
            out = fold == part
            losses[out] = loss_of(fitted(kind, len(prob), rows[~out], part), rows[out])
        yield summary(name, kind, losses, np.arange(len(rows)), within)


def loss_of(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    logit = table[rows[:, 1].astype(int), rows[:, 2].astype(int)]
    return preference_loss(torch.tensor(logit), torch.tensor(rows[:, 3])).numpy()


def summary(
    name: str, kind: str, losses: np.ndarray, clusters: np.ndarray, within: np.ndarray
) -> dict[str, Any]:
    return {
        "set": name,
        "model": kind,
        "log_loss": dict(clustered_mean(losses, clusters)),
        "log_loss_cyclic": dict(clustered_mean(losses[within], clusters[within])) if within.any() else None,
    }


if __name__ == "__main__":
    main()
