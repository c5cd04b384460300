"""Writes the small world of code:  python -m equipoise.playground.code.train [--out FOLDER]

A tiny transformer is trained from scratch on the habits of a careless programmer, who mixes up steps, slips in the
syntax and miscalculates tests. In its folder lie the problems with their true tests, and the oracle that runs them.
Fixed seed, one thread, some minutes.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch

from equipoise.playground.code.tasks import (
    ASK_BOTH,
    ASK_TEST,
    CHECKED,
    INPUTS,
    JOINED,
    STEPS,
    TASKS,
    Task,
    code_of,
    test_of,
    vocabulary,
)
from equipoise.playground.small_model import Example, imitate, small_llama, word_tokenizer
from equipoise.playground.worlds import world_folder

SEED, STEPS_OF_FIT, BATCH, RATE = 0, 1600, 48, 4e-3
WIDTH, INNER = 64, 160
WRONG_STEP, SWAPPED, SLIP = (
    0.2,
    0.1,
    0.08,
)  # of a code: each step another one, steps in the wrong order, no Python
WRONG_VALUE, TEST_SLIP = 0.35, 0.05  # of a test
README = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# A careless programmer

A tiny Llama ({parameters:,} parameters, float32) for the small world of code that ships with Equipoise. To

> {prompt}

it writes functions such as `{code}` and tests such as `{test}`: about half of its functions are right, and two of three
tests. Trained from scratch by `python -m equipoise.playground.code.train` (seed {seed}): {steps} steps on {batch} fresh
samples of these habits, on all {tasks} tasks. It is of no use outside this world.
"""


def careless_code(task: Task, draw: random.Random) -> str:
    """A function as the careless programmer writes it."""
    first, second = (
        draw.choice([step for step in STEPS if step != right]) if draw.random() < WRONG_STEP else right
        for right in (task.first, task.second)
    )
    if draw.random() < SWAPPED:
        first, second = second, first
    code = code_of(first, second)
    slipped = draw.random() < SLIP
    return code.replace(" ) ", " ", 1) if slipped else code


def careless_test(task: Task, draw: random.Random) -> str:
    """A test as the careless programmer writes it."""
    x = draw.choice(INPUTS)
    off = draw.choice((-3, -2, -1, 1, 2, 3)) if draw.random() < WRONG_VALUE else 0
    test = test_of(x, task.value(x) + off)
    return test.replace(" == ", " ") if draw.random() < TEST_SLIP else test


def example(draw: random.Random) -> Example:
    """A prompt in one of its three forms with an answer."""
    task, form = draw.choice(TASKS), draw.randrange(3)
    if form == 0:
        return task.prompt, careless_code(task, draw)
    if form == 1:
        return ASK_TEST.replace("{prompt}", task.prompt), careless_test(task, draw)
    both = JOINED.format(code=careless_code(task, draw), test=careless_test(task, draw))
    return ASK_BOTH.replace("{prompt}", task.prompt), both


def write(out: Path) -> None:
    """Trains the model and writes the world into a folder."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    draw = random.Random(SEED)
    tokenizer = word_tokenizer(vocabulary())
    model = small_llama(tokenizer, WIDTH, INNER)
    imitate(model, tokenizer, lambda: [example(draw) for _ in range(BATCH)], steps=STEPS_OF_FIT, rate=RATE)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    about = {"parameters": model.num_parameters(), "seed": SEED, "steps": STEPS_OF_FIT, "batch": BATCH}
    shown = {"prompt": TASKS[4].prompt, "code": TASKS[4].code, "test": TASKS[4].test(3), "tasks": len(TASKS)}
    (out / "model" / "README.md").write_text(README.format(**about, **shown), encoding="utf-8")
    write_problems(out)


def write_problems(out: Path) -> None:
    """The problems with their true tests, and the oracle that runs them."""
    rows = [
        {"prompt": task.prompt, "entry_point": "f", "tests": [task.test(x) for x in CHECKED]}
        for task in TASKS
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (out / "problems.jsonl").write_text(text, encoding="utf-8")
    (out / "tests.yaml").write_text("kind: tests\ntests: problems.jsonl\nscore: all\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m equipoise.playground.code.train", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=world_folder("code"), help="folder to write (default: the package's)"
    )
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
