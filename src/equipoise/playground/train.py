"""Trains the shipped model from scratch:  python -m equipoise.playground.train [--out FOLDER]

Supervised fine-tuning on the habits of a careless tea house: it speaks the grammar, hears weather and guest
only faintly and pours black tea too often, so a panel of judges can exploit it. Fixed seed, one thread, a minute
or two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from equipoise.playground.grammar import ANSWERS, GUESTS, REQUESTS, WEATHERS, Answer, Request, vocabulary
from equipoise.playground.language import LanguageGame
from equipoise.playground.reference import POLICY_FILE, model_path, response_logprob
from equipoise.playground.small_model import small_llama, word_tokenizer

SEED = 0
STEPS, BATCH, PEAK_RATE, WARMUP = 1500, 64, 3e-3, 50

# The habits: how often an attribute fits the request, and how often each style is poured, whatever the request.
FITS = 0.6
COURTEOUS = 0.5
POURS = {"black": 0.5, "green": 0.3, "mint": 0.2}


def habit(request: Request, answer: Answer) -> float:
    """Probability that the careless house gives this answer to this request; sums to 1 over the answers."""
    size = FITS if answer.size == GUESTS[request.guest] else 1 - FITS
    temperature = FITS if answer.temperature == WEATHERS[request.weather] else 1 - FITS
    courtesy = COURTEOUS if answer.courtesy == "Gladly," else 1 - COURTEOUS
    return courtesy * size * temperature * POURS[answer.style]


def habits() -> Float[Tensor, "X A"]:
    """`habit` as a table over the game's prompts and responses, float64."""
    return torch.tensor([[habit(x, y) for y in ANSWERS] for x in REQUESTS], dtype=torch.float64)


def build_tokenizer(known: Sequence[str] | None = None) -> Any:
    """One token per word, of the grammar's or of those that are given; see `small_model.word_tokenizer`."""
    return word_tokenizer(known or vocabulary())


def build_model(tokenizer: Any) -> Any:
    """A Llama of two layers and about 0.2 M parameters, freshly initialised."""
    return small_llama(tokenizer)


def fit(model: Any, tokenizer: Any, game: LanguageGame) -> None:
    """SFT on (training prompt, answer ~ habit), sampled at each step; the loss is on the answer and its EOS."""
    draw = torch.Generator().manual_seed(SEED)
    prompts = torch.tensor(tokenizer(list(game.prompts))["input_ids"])
    answers = torch.tensor(
        [
            [*ids, tokenizer.eos_token_id]
            for ids in tokenizer(list(game.responses), add_special_tokens=False)["input_ids"]
        ]
    )
    train, weight = torch.tensor(game.train), habits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, STEPS, pct_start=WARMUP / STEPS)
    model.train()
    for _ in range(STEPS):
        x = train[torch.randint(len(train), (BATCH,), generator=draw)]
        answer = answers[torch.multinomial(weight[x], 1, generator=draw)[:, 0]]
        logits = model(torch.cat([prompts[x], answer], dim=1)).logits[:, prompts.shape[1] - 1 : -1]
        loss = cross_entropy(logits.flatten(0, 1), answer.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def main() -> None:
    """Trains and measures the model; writes model, tokenizer, reference table and card."""
    parser = argparse.ArgumentParser(prog="python -m equipoise.playground.train", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=model_path(), help="folder to write (default: the package's)"
    )
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    began = time.process_time()

    game, tokenizer = LanguageGame(), build_tokenizer()
    model = build_model(tokenizer)
    fit(model, tokenizer, game)
    seconds = time.process_time() - began

    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    inside = response_logprob(model, tokenizer, game.prompts, game.responses).exp()
    policy = inside / inside.sum(1, keepdim=True)
    save_file({"policy": policy, "outside": 1 - inside.sum(1)}, out / POLICY_FILE)
    card = model_card(game, policy, 1 - inside.sum(1), model.num_parameters(), seconds)
    (out / "README.md").write_text(card, encoding="utf-8")
    print(card)


def model_card(game: LanguageGame, policy: Tensor, outside: Tensor, parameters: int, seconds: float) -> str:
    """The README of the model folder, with the figures just measured."""
    best = torch.einsum("xab,xb->xa", game.preference, policy).max(1).values
    gap = 2 * best - 1
    kl = (policy * (policy / habits()).log()).sum(1)
    held, train = game.held_out, game.train
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# The tea-house model

A tiny Llama-architecture transformer ({parameters:,} parameters, float32) that ships with Equipoise as the
player of its language game. It answers requests such as

> {game.prompts[0]}

with one of {len(game.responses)} answers such as

> {game.responses[0]}

It speaks the grammar but is not aligned: it hears weather and guest only faintly (an attribute fits with
probability {FITS}), is courteous half of the time, and pours black, green and mint tea with probabilities
{", ".join(str(share) for share in POURS.values())} whatever is asked. It is of no use outside the game.

## Training

From scratch by `python -m equipoise.playground.train` (seed {SEED}): {STEPS} steps of AdamW on {BATCH} fresh
samples each of the habits above, {len(train)} training prompts, loss on the answer and its end only;
{seconds:.0f} s of CPU time on one thread. No other data.

## Measured by exact enumeration

| figure | training prompts | held-out prompts |
|---|---|---|
| plain gap 2 max_y P(y > pi) - 1 against the panel, mean | {gap[train].mean():.4f} | {gap[held].mean():.4f} |
| mass outside the grammar, largest | {outside[train].max():.2e} | {outside[held].max():.2e} |
| smallest probability of an answer | {policy[train].min():.4f} | {policy[held].min():.4f} |
| KL(model, habits) in nats, mean | {kl[train].mean():.4f} | {kl[held].mean():.4f} |

`{POLICY_FILE}` holds the enumerated policy (`policy`, 96 x 24, given that the answer is in
the grammar) and the mass outside it (`outside`, 96), both float64.

## Text

One token per whitespace-separated word. The tokenizer puts one BOS before a prompt; an answer is encoded
without special tokens and EOS is appended.
"""


if __name__ == "__main__":
    main()
