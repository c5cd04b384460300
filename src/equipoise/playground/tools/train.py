"""Writes the small world of tools:  python -m equipoise.playground.tools.train [--out FOLDER]

A tiny transformer is trained from scratch on the calls of a careless assistant, who gets single values and parameters
wrong. In its folder lie the requests with their right calls, and the oracle that compares them. Fixed seed, one thread,
some minutes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from equipoise.playground.small_model import Example, imitate, small_llama, word_tokenizer
from equipoise.playground.tools.requests import (
    MOST_CALLS,
    NUMBERS,
    TOOLS,
    Request,
    request,
    requests,
    vocabulary,
    written,
)
from equipoise.playground.worlds import world_folder

SEED, STEPS, BATCH, RATE = 0, 2000, 48, 4e-3
WIDTH, INNER = 64, 160
ROWS = 480
WRONG_VALUE, LEFT_OUT = 0.1, 0.04  # of each argument
README = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# A careless assistant

A tiny Llama ({parameters:,} parameters, float32) for the small world of tools that ships with Equipoise. To

> {prompt}

it answers with calls such as

> {answer}

and gets some values and parameters wrong: the more arguments, the more often. Trained from scratch by
`python -m equipoise.playground.tools.train` (seed {seed}): {steps} steps on {batch} fresh requests each. It is of no
use outside this world.
"""


def careless(asked: Request, draw: random.Random) -> str:
    """Calls as the careless assistant writes them: each value may be another one of its kind, or left out."""
    calls = []
    for name, given in asked.calls:
        kept = {key: value for key, value in given.items() if draw.random() >= LEFT_OUT}
        calls.append((name, {key: _other(name, key, value, draw) for key, value in (kept or given).items()}))
    return written(tuple(calls))


def _other(tool: str, key: str, value: Any, draw: random.Random) -> Any:
    if draw.random() >= WRONG_VALUE:
        return value
    (about,) = (t["parameters"]["properties"][key] for t in TOOLS if t["name"] == tool)
    return draw.choice([other for other in about.get("enum", NUMBERS) if other != value])


def example(draw: random.Random) -> Example:
    """A fresh request with the assistant's calls."""
    asked = request(draw, 1 + draw.randrange(MOST_CALLS))
    return asked.text, careless(asked, draw)


def write(out: Path) -> None:
    """Trains the model and writes the world into a folder."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    draw = random.Random(SEED)
    tokenizer = word_tokenizer(vocabulary(), longest=128)
    model = small_llama(tokenizer, WIDTH, INNER, longest=128)
    imitate(model, tokenizer, lambda: [example(draw) for _ in range(BATCH)], steps=STEPS, rate=RATE)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    shown = requests(3, SEED)[2]
    about: Mapping[str, Any] = {
        "parameters": model.num_parameters(),
        "prompt": shown.text,
        "answer": shown.answer,
        "seed": SEED,
        "steps": STEPS,
        "batch": BATCH,
    }
    (out / "model" / "README.md").write_text(README.format(**about), encoding="utf-8")
    write_requests(out)


def write_requests(out: Path) -> None:
    """The requests with their right calls, the tools' signatures, and the oracles that compare calls."""
    rows = [{"prompt": r.text, "completion": r.answer} for r in requests(ROWS, SEED)]
    (out / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (out / "tools.json").write_text(json.dumps(TOOLS, indent=1) + "\n", encoding="utf-8")
    for score in ("exact", "graded"):
        settings = ["kind: tool_calls", "calls: requests.jsonl", "columns: {calls: completion}"]
        settings += ["tools: tools.json", f"score: {score}"]
        (out / f"{score}.yaml").write_text("\n".join(settings) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m equipoise.playground.tools.train", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=world_folder("tools"), help="folder to write (default: the package's)"
    )
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
