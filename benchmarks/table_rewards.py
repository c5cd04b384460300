"""Bradley-Terry rewards for `table.py`: the best fit to the exact preferences of pairs from a checkpoint's policy.

What a reward model would learn from infinitely many comparisons of the reference's answers. Rules for `--oracle`, of
the panel `skewed`; `reward_file` computes a table once, in half a minute, and names the rule that reads it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from equipoise.games.controls import scalar_reward
from equipoise.playground.large import LargeTeaHouse, enumerated_policy
from equipoise.playground.large.grammar import answer_index, request_index

PANEL = "skewed"
FOLDER = Path("runs/table/rewards")
OUTSIDE = 5.0  # logits below the worst answer, for text outside the grammar


def reward_file(panel: str, checkpoint: str) -> str:
    """The rule's name, after its table is there. Raises ValueError for another panel."""
    if panel != PANEL:
        raise ValueError(f"Bradley-Terry rewards are made for the panel {PANEL}, not {panel}")
    path = FOLDER / f"{checkpoint}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        game, policy = LargeTeaHouse(PANEL), enumerated_policy(checkpoint)
        fitted = [scalar_reward(game.tables([x])[:, :-1, :-1], policy[[x]])[0] for x in range(len(policy))]
        part = path.with_suffix(".part")
        save_file({"reward": torch.stack(fitted)}, part)
        part.replace(path)
    return f"{Path(__file__).resolve()}:{checkpoint}"


@cache
def _table(checkpoint: str) -> torch.Tensor:
    return load_file(FOLDER / f"{checkpoint}.safetensors")["reward"]


def _score(checkpoint: str, prompt: str, response: str) -> float:
    x, a = request_index(prompt), answer_index(response)
    assert x is not None
    rewards = _table(checkpoint)[x]
    return float(rewards.min() - OUTSIDE if a is None else rewards[a])


def weak(prompt: str, response: str) -> float:
    return _score("weak", prompt, response)


def mid(prompt: str, response: str) -> float:
    return _score("mid", prompt, response)


def strong(prompt: str, response: str) -> float:
    return _score("strong", prompt, response)
