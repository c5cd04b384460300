"""Scores a second of a reward model: one text at a time, in fixed batches, and in batches by padded tokens.

    python benchmarks/oracle_batches.py [--data data] [--texts 64] [--repeats 5]

Responses of hh_rlhf_harmless, whose lengths differ much, under a random head on the model of 260,000 parameters. Each
way reads the same texts, and the ways take turns, so that what else runs on the machine hits all of them. Medians over
repeats, of processor time and of the clock, with the range of the former; the largest difference of scores beside them.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from equipoise.data.reading.read import read
from equipoise.reward_models.batches import padded
from equipoise.reward_models.head import Head
from equipoise.reward_models.pairs import labelled
from equipoise.reward_models.read import outputs
from equipoise.reward_models.start import begin


@torch.no_grad()
def fixed(model, texts, size: int) -> torch.Tensor:
    """Batches of so many texts in the order in which they come."""
    parts = [texts[i : i + size] for i in range(0, len(texts), size)]
    return torch.cat([model.read(*padded(part, model.pad)).values for part in parts]).double()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = begin(given.data / "lm_stories260k", Head(), seed=0)
    pairs = labelled(read(given.data / "hh_rlhf_harmless" / "pairs.jsonl.gz"), start.texts, Head())
    texts = list(dict.fromkeys(text for pair in pairs for text in pair.tokens))[: given.texts]
    model, size = start.model.eval(), sum(map(len, texts))
    ways = {
        "one by one": lambda: fixed(model, texts, 1),
        "16 as they come": lambda: fixed(model, texts, 16),
        "2,048 padded tokens": lambda: outputs(model, texts, 2048),
        "8,192 padded tokens": lambda: outputs(model, texts, 8192),
    }
    scores = {name: way() for name, way in ways.items()}  # and a first run that is not timed
    used: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, way in ways.items():
            begun = time.process_time(), time.perf_counter()
            way()
            used[name].append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
    lengths = f"{min(map(len, texts))} to {max(map(len, texts))}"
    print(f"{len(texts)} texts of {lengths} tokens, {size} in all; load {os.getloadavg()[0]:.1f}\n")
    print("| batches | scores a processor second | range | tokens | scores a second | largest difference |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, times in used.items():
        own, clock = (np.array(column) for column in zip(*times, strict=True))
        rates = len(texts) / own
        apart = float((scores[name] - scores["one by one"]).abs().max())
        print(
            f"| {name} | {np.median(rates):.0f} | {rates.min():.0f} to {rates.max():.0f} "
            f"| {size / np.median(own):,.0f} | {len(texts) / np.median(clock):.0f} | {apart:.0e} |"
        )


if __name__ == "__main__":
    main()
