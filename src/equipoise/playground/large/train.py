"""Trains the large tea house's three checkpoints:  python -m equipoise.playground.large.train [NAME ...] [--out FOLDER]

Supervised fine-tuning on the habits of the house (`habits`) and on the texts beside its answers (`auxiliary`), from
scratch, each checkpoint with a seed of its own: `weak` after a few hundred steps, `mid` and `strong` after more. Fixed
seeds, one thread; weights are stored in bfloat16. An unfinished checkpoint leaves nothing behind.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from equipoise.playground.large import auxiliary
from equipoise.playground.large.enumerate import answer_logps, trie_of
from equipoise.playground.large.game import LargeTeaHouse
from equipoise.playground.large.grammar import ANSWERS, REQUESTS
from equipoise.playground.large.habits import habits
from equipoise.playground.large.models import CHECKPOINTS, POLICY_FILE, checkpoint_path
from equipoise.playground.large.panels import HOST, rewards
from equipoise.playground.small_model import Example, imitate, small_llama, word_tokenizer
from equipoise.policy.files import write_text

BATCH, RATE = 48, 2e-3
STEPS = {"weak": 500, "mid": 1500, "strong": 3500}
BESIDE, FEWER = 6, 24  # every sixth batch is of texts beside the answers, and smaller: they are longer
WIDTH, INNER, LONGEST = 192, 640, 128


def build_tokenizer() -> Any:
    """One token per word of the grammar and of the texts beside it."""
    texts = [request.text for request in REQUESTS] + [answer.text for answer in ANSWERS]
    words = dict.fromkeys(word for text in texts for word in text.split())
    return word_tokenizer(tuple(dict.fromkeys([*words, *auxiliary.words()])), LONGEST)


def build_model(tokenizer: Any) -> Any:
    """A Llama of two layers and about a million parameters, freshly initialised."""
    return small_llama(tokenizer, WIDTH, INNER, LONGEST)


class Examples:
    """Batches of (text that is read, text that is learned), of all requests: words are known before alignment."""

    def __init__(self, seed: int) -> None:
        self.draw, self.beside = torch.Generator().manual_seed(seed), random.Random(seed)
        self.weight, self.reward, self.batches = habits(), rewards(HOST), 0

    def __call__(self) -> Sequence[Example]:
        self.batches += 1
        if self.batches % BESIDE == 0:
            return [self._beside() for _ in range(FEWER)]
        x = torch.randint(len(REQUESTS), (BATCH,), generator=self.draw)
        answers = torch.multinomial(self.weight[x], 1, generator=self.draw)[:, 0]
        return [
            (REQUESTS[i].text, ANSWERS[a].text) for i, a in zip(x.tolist(), answers.tolist(), strict=True)
        ]

    def _beside(self) -> Example:
        x = self.beside.randrange(len(REQUESTS))
        a, b, other = torch.multinomial(self.weight[x], 3, generator=self.draw).tolist()
        if self.reward[x, a] < self.reward[x, b]:
            a, b = b, a
        request, better, worse = REQUESTS[x], ANSWERS[a], ANSWERS[b]
        kind = self.beside.randrange(4)
        if kind == 0:
            return auxiliary.revision_prompt(request, worse), ANSWERS[other].text
        if kind == 1:
            return auxiliary.rationale_prompt(request, better, worse), auxiliary.rationale(
                request, better, worse
            )
        if kind == 2:
            return auxiliary.critique_prompt(request, worse), auxiliary.critique(request, worse)
        if self.beside.random() < 0.5:
            return auxiliary.judge_prompt(request, better, worse), auxiliary.FIRST
        return auxiliary.judge_prompt(request, worse, better), auxiliary.SECOND


def train(name: str, out: Path) -> str:
    """Write a checkpoint, its enumerated policy and its card, which is returned."""
    seed = CHECKPOINTS.index(name)
    torch.manual_seed(seed)
    begun, tokenizer = time.process_time(), build_tokenizer()
    model = build_model(tokenizer)
    imitate(model, tokenizer, Examples(seed), steps=STEPS[name], rate=RATE)
    model = model.to(torch.bfloat16)
    seconds = time.process_time() - begun
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    logps, took = enumerated(model.float(), tokenizer)
    save_file({"logp": logps.float()}, out / POLICY_FILE)
    card = model_card(name, seed, model.num_parameters(), seconds, took, logps)
    write_text(out / "README.md", card)
    return card


def enumerated(model: Any, tokenizer: Any) -> tuple[Tensor, float]:
    """(log-probs [X, A] of every answer to every request, processor seconds)."""
    begun, trie = time.process_time(), trie_of(tokenizer, [answer.text for answer in ANSWERS])
    prompts = tokenizer([request.text for request in REQUESTS])["input_ids"]
    return answer_logps(model, prompts, trie), time.process_time() - begun


def model_card(name: str, seed: int, parameters: int, seconds: float, took: float, logps: Tensor) -> str:
    """The README of a checkpoint, with the figures just measured."""
    inside = logps.exp().sum(1)
    policy = torch.softmax(logps, dim=1)
    kl = (policy * (policy / habits()).log()).sum(1)
    game = LargeTeaHouse("skewed")
    rows = []
    for split in ("train", "combinations", "words"):
        at = game.splits[split]
        rows.append(
            f"| {split} | {(1 - inside[at]).mean():.2%} | {(1 - inside[at]).max():.2%} | {kl[at].mean():.3f} | "
            f"{policy[at].min():.1e} |"
        )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# The large tea house's model, {name}

A tiny Llama ({parameters:,} parameters, stored in bfloat16) that ships with Equipoise as the player of its large
language game. It answers requests such as

> {REQUESTS[0].text}

with one of {len(ANSWERS)} answers of 4 to 30 words such as

> {ANSWERS[-1].text}

It imitates the habits of a careless house and is not aligned; of no use outside the game.

## Training

From scratch by `python -m equipoise.playground.large.train {name}` (seed {seed}): {STEPS[name]:,} steps of AdamW on
{BATCH} fresh samples each of the habits, every sixth batch on revisions, rationales, critiques and judgements;
{seconds:.0f} s of CPU time on one thread. No other data.

## Measured by exact enumeration ({took:.0f} s of CPU time for all {len(REQUESTS)} requests)

| requests | mass outside the grammar, mean | largest | KL(model, habits) in nats, mean | least probable answer |
|---|---|---|---|---|
{chr(10).join(rows)}

`{POLICY_FILE}` holds the log-probs of every answer ({len(REQUESTS)} x {len(ANSWERS)}, float32); what the exponentials
lack to 1 is outside the grammar.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m equipoise.playground.large.train", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=list(CHECKPOINTS), help="weak, mid, strong; all by default"
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write to, one folder for each; default: the package's"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        print(train(name, options.out / name if options.out else checkpoint_path(name)), flush=True)


if __name__ == "__main__":
    main()
