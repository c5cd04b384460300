"""The large tea house as an enumerable game: some prompts of each split, tables on demand, answers scored as a trie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.data.collate import Prompt, Response
from equipoise.evaluate.exact import FiniteGame
from equipoise.playground.large import LargeTeaHouse, answer_logps, trie_of_ids
from equipoise.policy.causal import CausalPolicy

MOST = 16  # prompts of each split: a policy over them takes some ten seconds of a core


@dataclass(frozen=True)
class Listed:
    """P(a beats b) of prompts by their places in a list; follows `exact.Tables`."""

    game: LargeTeaHouse
    prompts: Sequence[int]
    gold: bool = False

    def __getitem__(self, places: Tensor, /) -> Tensor:
        return self.game.tables([self.prompts[place] for place in places.tolist()], gold=self.gold)


def chosen_prompts(game: LargeTeaHouse, most: int = MOST) -> Mapping[str, list[int]]:
    """At most so many prompts of each split, evenly spread over it."""
    return {
        name: [split[i * len(split) // min(most, len(split))] for i in range(min(most, len(split)))]
        for name, split in game.splits.items()
    }


def large_game(
    game: LargeTeaHouse, prompts: Sequence[Prompt], responses: Sequence[Response], most: int = MOST
) -> FiniteGame:
    """The game as the evaluation enumerates it.

    prompts    of all X requests, rendered.     most    prompts of each split, `MOST` at the most.
    """
    chosen = chosen_prompts(game, min(most, MOST))
    listed = [x for split in chosen.values() for x in split]
    place = {x: i for i, x in enumerate(listed)}
    splits = {name: [place[x] for x in split] for name, split in chosen.items() if name != "train"}
    trie = trie_of_ids([response.ids for response in responses])
    ids = [prompts[x].ids for x in listed]

    def enumerated(policy: CausalPolicy) -> Tensor:
        return answer_logps(policy.model, ids, trie)

    at = torch.tensor(listed)
    return FiniteGame(
        prompts=[prompts[x] for x in listed],
        responses=responses,
        preference=Listed(game, listed),
        held_out=[i for split in splits.values() for i in split],
        utilities={name: rewards[at] for name, rewards in zip(game.groups, game.group_rewards, strict=True)},
        splits=splits,
        gold=Listed(game, listed, gold=True) if game.has_gold else None,
        enumerate=enumerated,
    )
