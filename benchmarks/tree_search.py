"""What tree search over steps gains: MCTS-DPO with pairs of steps and of responses, and online DPO, on small worlds.

    python benchmarks/tree_search.py --chains FOLDER                     chains of arithmetic (playground.chains)
    python benchmarks/tree_search.py --stories FOLDER --prompts FILE     a story model, and JSON lines with a `text`

Each method runs on the same prompts with the same oracle of single responses; online DPO samples so many responses that
it writes about as many tokens. Told are the share of accepted answers to held-out prompts before and after, the tokens
that were sampled for training, and the seconds of the run. Results: results/tree_search.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, machine, table

import equipoise as eq
from equipoise.core.intervals import clustered_share
from equipoise.data.collate import Prompt
from equipoise.data.rendering.render import Renderer, load_tokenizer
from equipoise.playground import chains
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding
from equipoise.worlds.text import sampling as world_sampling

RESULTS = HERE / "results" / "tree_search.json"
GLAD = ("happy", "smiled", "laughed", "proud", "glad")
COLUMNS = {"accepted": "value", "from": "low", "to": "high"}
SAMPLES = 4  # answers to each held-out prompt


def glad(prompt: str, response: str) -> float:
    """1 if the story says that somebody is glad."""
    return float(any(word in response.lower() for word in GLAD))


@dataclass(frozen=True)
class World:
    """A model, its training and held-out prompts, the rule, and the settings that all methods share."""

    name: str
    model: Path
    train: Sequence[str]
    held_out: Sequence[str]
    rule: Callable[[str, str], float]
    shared: dict[str, Any]
    tree: dict[str, Any]
    samples: int  # of online DPO
    longest: int


def chain_world(folder: Path) -> World:
    prompts = [json.loads(line)["prompt"] for line in (folder / "prompts.jsonl").read_text().splitlines()]
    return World(
        "chains of arithmetic",
        folder / "model",
        prompts[:160],
        prompts[160:],
        chains.correct,
        {"play.prompts": 32, "train.lr": 3e-4, "train.batch": 32, "train.epochs": 2, "objective.beta": 0.3},
        {"mark": ";", "depth": 0, "iterations": 3, "branch": 3, "step_tokens": 8},
        12,
        26,
    )


def story_world(folder: Path, prompts: Path) -> World:
    raw = prompts.read_bytes()
    lines = (gzip.decompress(raw) if prompts.suffix == ".gz" else raw).decode().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    firsts = list(dict.fromkeys(text.split(".")[0] + "." for text in texts))
    firsts = [first for first in firsts if len(first) < 120 and not glad("", first)]
    return World(
        "stories",
        folder,
        firsts[:96],
        firsts[96:160],
        glad,
        {"play.prompts": 24, "train.lr": 2e-5, "train.batch": 24, "train.epochs": 2, "objective.beta": 0.1},
        {"mark": ".", "depth": 3, "iterations": 3, "branch": 2, "step_tokens": 32},
        4,
        64,
    )


def accepted(world: World, folder: Path) -> list[float]:
    """The rule's score of SAMPLES answers to each held-out prompt."""
    tokenizer = load_tokenizer(str(world.model))
    renderer = Renderer(tokenizer, template="plain", max_length=512)
    policy = CausalPolicy.load(folder, tokenizer, device="cpu")
    prompts = [Prompt(renderer.prompt(text), text, text) for text in world.held_out]
    decoding = Decoding(max_new_tokens=world.longest, batch=64)
    groups = sample(policy, prompts, SAMPLES, seed=7, decoding=decoding)
    return [world.rule(p.text, r.text) for p, group in zip(prompts, groups, strict=True) for r in group]


def counted(counter: list[int], write: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which counts the tokens that it samples."""

    def wrapped(*given: Any, **named: Any) -> Any:
        groups = write(*given, **named)
        counter[0] += sum(len(response.ids) for group in groups for response in group)
        return groups

    return wrapped


def run(world: World, name: str, rounds: int, folder: Path, seed: int) -> dict[str, Any]:
    method = "online_dpo" if name == "online_dpo" else "mcts_dpo"
    settings: dict[str, Any] = {"data.template": "plain", "sampling.max_new_tokens": world.longest}
    settings |= {"sampling.batch": 64, "evaluate.every": 1000, "train.schedule": "constant", **world.shared}
    if method == "mcts_dpo":
        settings |= {f"objective.{key}": value for key, value in world.tree.items()}
        settings |= {"objective.self_evaluation": False, "objective.level": name.split()[1]}
    else:
        settings |= {"play.samples": world.samples, "play.pairing": "best_worst"}
    data = folder / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in world.train))
    counter, began = [0], time.perf_counter()
    plain = world_sampling.sample, world_sampling.continue_steps
    world_sampling.sample, world_sampling.continue_steps = (counted(counter, write) for write in plain)
    try:
        done = eq.align(
            method,
            model=world.model,
            data=data,
            oracle=world.rule,
            rounds=rounds,
            out=folder / "run",
            seed=seed,
            settings=settings,
            quiet=True,
        )
    finally:
        world_sampling.sample, world_sampling.continue_steps = plain
    seconds = time.perf_counter() - began
    share = accepted(world, Path(done.checkpoint))
    return {"method": name, "seed": seed, "tokens": counter[0], "seconds": seconds, "accepted": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chains", type=Path)
    parser.add_argument("--stories", type=Path)
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    worlds = [chain_world(given.chains)] if given.chains else []
    worlds += [story_world(given.stories, given.prompts)] if given.stories else []
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for world in worlds:
        runs = [
            {
                "method": "before",
                "seed": 0,
                "tokens": 0,
                "seconds": 0.0,
                "accepted": accepted(world, world.model),
            }
        ]
        for name in ("mcts_dpo step", "mcts_dpo response", "online_dpo"):
            for seed in range(given.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    runs.append(run(world, name, given.rounds, Path(folder), seed))
                print(runs[-1]["method"], np.mean(runs[-1]["accepted"]), runs[-1]["tokens"], flush=True)
        found[world.name] = [row(one) for one in runs]
        RESULTS.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")
        print(world.name)
        columns = ("method", "seed", "accepted", "from", "to", "tokens", "seconds")
        print("\n".join(table(columns, [[str(one[name]) for name in columns] for one in found[world.name]])))


def row(one: dict[str, Any]) -> dict[str, Any]:
    groups = np.repeat(np.arange(len(one["accepted"]) // SAMPLES), SAMPLES)
    found = clustered_share(np.array(one["accepted"]), groups)
    about = {name: round(float(found[key]), 3) for name, key in COLUMNS.items()}
    return {**one, **about, "seconds": round(one["seconds"])}


if __name__ == "__main__":
    main()
