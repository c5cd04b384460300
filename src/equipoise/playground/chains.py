r"""Chains of arithmetic: a small task whose steps can be right or wrong and whose answer can be checked.

    python -m equipoise.playground.chains --out chains
    equipoise align mcts_dpo --model chains/model --data chains/prompts.jsonl --out runs/chains \
        --oracle equipoise.playground.chains:correct --set mark=";" self_evaluation=false depth=0

    prompt     3 + 4 - 1 + 4 =
    response   3 + 4 = 2 ; 2 - 1 = 1 ; 1 + 4 = 0 ; answer 0

Numbers are 0 to 4, sums and differences are taken modulo 5, and a step ends with ";". The model is trained from
scratch, in a minute or two, on solutions whose steps are wrong now and then: it knows how to write a chain, and errs.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from equipoise.playground.train import BATCH, PEAK_RATE, SEED, STEPS, build_model, build_tokenizer
from equipoise.policy.files import write_text

BASE = 5  # numbers are taken modulo this
WORDS = (*map(str, range(BASE)), "+", "-", "=", ";", "answer")
LENGTH, PROMPTS = 3, 256  # steps of a chain; prompts of the file
ERRS = 0.25  # how often a step of the training solutions is wrong


def prompt_of(rng: random.Random) -> str:
    """A chain: a number, then LENGTH times a sign and a number."""
    rest = (f" {rng.choice('+-')} {rng.randrange(BASE)}" for _ in range(LENGTH))
    return f"{rng.randrange(BASE)}{''.join(rest)} ="


def solution(prompt: str, rng: random.Random, errs: float = 0.0) -> str:
    """A written solution; each step's result is a wrong number with probability `errs`."""
    words = prompt.split()
    total, steps = int(words[0]), []
    for sign, digit in zip(words[1:-1:2], words[2:-1:2], strict=True):
        result = _result(total, sign, int(digit))
        if rng.random() < errs:
            result = (result + rng.randrange(1, BASE)) % BASE
        steps.append(f"{total} {sign} {digit} = {result} ;")
        total = result
    return f"{' '.join(steps)} answer {total}"


def answer_of(prompt: str) -> int:
    """The right answer of a chain."""
    words = prompt.split()
    total = int(words[0])
    for sign, digit in zip(words[1:-1:2], words[2:-1:2], strict=True):
        total = _result(total, sign, int(digit))
    return total


def correct(prompt: str, response: str) -> float:
    """1 if the response ends with the right answer, else 0: a scoring rule for `--oracle`."""
    return float(response.split()[-2:] == ["answer", str(answer_of(prompt))])


def right_steps(prompt: str, response: str) -> float:
    """The share of the chain's steps that are written as they should be, from the first to the first that is not."""
    steps = [part.split() for part in response.split(";")[:LENGTH]]
    right = [part.split() for part in solution(prompt, random.Random(0)).split(";")[:LENGTH]]
    first = next((k for k, (a, b) in enumerate(zip(steps, right, strict=False)) if a != b), len(steps))
    return first / LENGTH


def train(out: Path, steps: int = STEPS) -> None:
    """Write the model, 256 prompts and the README of a folder."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    tokenizer = build_tokenizer(WORDS)
    model = build_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, steps, pct_start=0.05)
    model.train()
    for _ in range(steps):
        prompts = [prompt_of(rng) for _ in range(BATCH)]
        head = torch.tensor(tokenizer(prompts)["input_ids"])
        tail = _ids(tokenizer, [solution(prompt, rng, ERRS) for prompt in prompts])
        logits = model(torch.cat([head, tail], dim=1)).logits[:, head.shape[1] - 1 : -1]
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), tail.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    lines = dict.fromkeys(prompt_of(rng) for _ in range(PROMPTS))
    write_text(out / "prompts.jsonl", "".join(json.dumps({"prompt": line}) + "\n" for line in lines))


def _ids(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    plain = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return torch.tensor([[*ids, tokenizer.eos_token_id] for ids in plain])


def _result(total: int, sign: str, digit: int) -> int:
    return (total + digit if sign == "+" else total - digit) % BASE


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m equipoise.playground.chains", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    train(parser.parse_args().out)


if __name__ == "__main__":
    main()
