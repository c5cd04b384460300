"""Scores a second of a reward model: one text at a time, in fixed batches, and in batches by padded tokens.

    python benchmarks/oracle_batches.py [--data ../shared/data] [--texts 512]

Responses of hh_rlhf_harmless, whose lengths differ much, under a random head on the model of 260,000 parameters. Each
way reads the same texts; the largest difference of their scores stands beside the time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

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
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--texts", type=int, default=512)
    arguments = parser.parse_args()
    start = begin(arguments.data / "lm_stories260k", Head(), seed=0)
    pairs = labelled(read(arguments.data / "hh_rlhf_harmless" / "pairs.jsonl.gz"), start.texts, Head())
    texts = list(dict.fromkeys(text for pair in pairs for text in pair.tokens))[: arguments.texts]
    model, size = start.model.eval(), sum(map(len, texts))
    alone = None
    print(f"{len(texts)} texts, {size} tokens, {min(map(len, texts))} to {max(map(len, texts))}")
    print("| batches | scores/s | tokens/s | largest difference |\n|---|---|---|---|")
    ways = {
        "one by one": lambda: fixed(model, texts, 1),
        "16 as they come": lambda: fixed(model, texts, 16),
        "2,048 padded tokens": lambda: outputs(model, texts, 2048),
        "8,192 padded tokens": lambda: outputs(model, texts, 8192),
    }
    for name, way in ways.items():
        way()
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            found = way()
            times.append(time.perf_counter() - begun)
        alone = found if alone is None else alone
        apart = float((found - alone).abs().max())
        best = min(times)
        print(f"| {name} | {len(texts) / best:,.0f} | {size / best:,.0f} | {apart:.1e} |", flush=True)


if __name__ == "__main__":
    main()
