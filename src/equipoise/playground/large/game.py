"""The large tea house as a game: requests, answers, splits, panels, and an oracle that is known exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core.dims import PerComparison
from equipoise.games.preference import PreferenceGame
from equipoise.oracles.protocol import OracleError, OraclePrompt, shortened
from equipoise.playground.large import auxiliary
from equipoise.playground.large.grammar import (
    ANSWERS,
    REQUESTS,
    STYLES,
    WEATHERS,
    answer_index,
    request_index,
    split_of,
)
from equipoise.playground.large.panels import PANELS, SHARES, PanelName, panel
from equipoise.playground.large.votes import Votes

NOISY = Votes(count=3, flips=0.2, sway=0.1)  # how the panel "noisy" is told


@dataclass(frozen=True)
class LargeTeaHouse:
    """X = 128 requests, each with the same A = 972 answers, and P(a beats b | request) known exactly.

    panel      who judges, see `playground.large.panels`
    votes      verdicts are shares of that many votes; 0: exact probabilities (the panel "noisy": its own three)
    prompts    X request texts
    responses  the A answer texts, the same for every prompt
    splits     indices of the prompts: "train" (64), "combinations" (32 new ones of known words), "words" (32 with new
               words)

    Raises ValueError for an unknown panel, or a negative number of votes.
    """

    panel: PanelName = "skewed"
    votes: int = 0

    def __post_init__(self) -> None:
        if self.panel not in PANELS:
            raise ValueError(f"panel must be one of {PANELS}, got {self.panel!r}")
        if self.votes < 0:
            raise ValueError(f"the number of votes must be at least 0, got {self.votes}")

    @property
    def variant(self) -> str:
        return self.panel

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        return tuple(request.text for request in REQUESTS)

    @cached_property
    def responses(self) -> tuple[str, ...]:
        return tuple(answer.text for answer in ANSWERS)

    @cached_property
    def splits(self) -> Mapping[str, list[int]]:
        of = [split_of(request) for request in REQUESTS]
        return {
            name: [i for i, split in enumerate(of) if split == name]
            for name in ("train", "combinations", "words")
        }

    @property
    def train(self) -> list[int]:
        return self.splits["train"]

    @property
    def held_out(self) -> list[int]:
        """Both held-out splits, in the prompts' order."""
        return sorted([*self.splits["combinations"], *self.splits["words"]])

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of users, largest first; none but in the panel "users"."""
        return tuple(SHARES) if self.panel == "users" else ()

    @property
    def group_rewards(self) -> Float[Tensor, "G X A1"]:
        """Each group's reward of each answer, and of every text outside the grammar; no groups but in "users"."""
        rewards = panel(self.panel).rewards
        return rewards if self.groups else rewards[:0]

    def tables(self, prompts: Sequence[int], *, gold: bool = False) -> Float[Tensor, "N A1 A1"]:
        """P[x, a, b] of these prompts, with a last row and column for all text outside the grammar.

        gold    as the reward that measures sees it, where the panel judges by another one (`length`, `gold_proxy`)
        """
        judging = panel(self.panel)
        return torch.stack([judging.gold_table(x) if gold else judging.table(x) for x in prompts])

    @property
    def has_gold(self) -> bool:
        """Whether another reward than the panel's own measures."""
        return panel(self.panel).gold is not None

    @property
    def scalar(self) -> bool:
        """Whether the panel has a scalar reward, so that P = sigma(r(a) - r(b))."""
        judging = panel(self.panel)
        return judging.cycles is None and len(judging.shares) == 1

    @property
    def reward(self) -> Float[Tensor, "X A1"]:
        """The panel's reward, its last column that of text outside the grammar. Raises OracleError without one."""
        if not self.scalar:
            what = "a panel with cycles has" if self.panel == "skewed" else "several groups of users have"
            raise OracleError(f"{what} no scalar score; compare pairs, or use panel=bradley_terry")
        return panel(self.panel).rewards[0]

    def prefers(self, prompt: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """P(a beats b) of single comparisons by index, exact; A stands for text outside the grammar."""
        return panel(self.panel).compare(prompt, a, b)

    def win_rates(self, policy: Float[Tensor, "X A"]) -> Float[Tensor, "X A"]:
        """P(a beats an answer of the policy) of every answer; a request at a time."""
        judging = panel(self.panel)
        return torch.stack([judging.table(x)[:-1, :-1] @ policy[x] for x in range(len(REQUESTS))])

    def group_of(self, user: int) -> int:
        """The group of user number `user`, by the groups' shares of every ten users."""
        place, until = user % 10, 0.0
        for group, share in enumerate(SHARES.values()):
            until += 10 * share
            if place < round(until):
                return group
        raise AssertionError("the shares of the groups sum to 1")

    def domain(self, prompt: str) -> int:
        """The domain of a request: cold weather or warm."""
        return int(any(weather in prompt for weather, asks in WEATHERS.items() if asks == "hot"))

    def oracle(self) -> LargeOracle:
        """The judges as an oracle on strings."""
        return LargeGroupOracle(self) if self.groups else LargeOracle(self)

    def as_preference_game(self, prompts: Sequence[int], reference: Float[Tensor, "N A"]) -> PreferenceGame:
        """The game of some prompts for the exact solvers, with the given policy as its reference."""
        return PreferenceGame(self.tables(prompts)[:, :-1, :-1], reference)

    def rationale(self, prompt: int, better: int, worse: int) -> str:
        """What the better answer has of what is asked for and the worse has not, in words of the grammar."""
        return auxiliary.rationale(REQUESTS[prompt], ANSWERS[better], ANSWERS[worse])

    def styles(self) -> Mapping[str, Tensor]:
        """Style -> [A] whether an answer has it."""
        return {style: torch.tensor([a.style == style for a in ANSWERS]) for style in STYLES}

    def describe(self) -> str:
        """The game in plain words: requests, answers and judges."""
        sizes = {name: len(prompts) for name, prompts in self.splits.items()}
        return (
            f"A large tea house with {len(self.prompts)} requests ({sizes['train']} to train on, "
            f"{sizes['combinations']} new combinations, {sizes['words']} with new words) and {len(self.responses)} "
            f"answers of 4 to 30 words to each.\n  request: {self.prompts[0]}\n  answer:  {self.responses[400]}\n"
            f"The panel is {self.panel!r}: {DESCRIBED[self.panel]}"
        )


DESCRIBED: Mapping[PanelName, str] = {
    "skewed": "styles beat each other in a cycle that no Bradley-Terry policy can play, so the best play is a mixture.",
    "bradley_terry": "one judge by a score, so one answer is best.",
    "length": "one judge who also likes every word; the gold judge does not.",
    "noisy": "one judge by a score, of whom three votes are seen, a fifth of them wrong, some swayed by the position.",
    "gold_proxy": "a reward learned from few pairs judges; the gold judge measures.",
    "users": "three groups of users with shares of 60, 30 and 10 %, and different tastes.",
    "rare": "one judge by a score, and the best answer has a reference share of one in ten thousand.",
}


class LargeOracle:
    """Oracle of the large tea house on strings: deterministic, insensitive to extra whitespace.

    A text outside the grammar loses to the worst answer with probability 0.99; two such texts tie.
    """

    def __init__(self, game: LargeTeaHouse) -> None:
        self.game = game
        noisy = NOISY if game.panel == "noisy" else None
        if game.votes:
            noisy = replace(noisy, count=game.votes) if noisy else Votes(count=game.votes)
        self.told = noisy

    @property
    def name(self) -> str:
        votes = f"-{self.told.count}-votes" if self.told else ""
        return f"large-tea-house-{self.game.panel}{votes}"

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> PerComparison:
        """P(a[i] beats b[i] | prompts[i]), or the share of votes; float64.

        Raises OracleError for a prompt outside the game.
        """
        if not len(prompts) == len(a) == len(b):
            raise OracleError(f"compare got {len(prompts)} prompts, {len(a)} and {len(b)} responses")
        x, first, second = _rows(prompts), _columns(a), _columns(b)
        prob = self.game.prefers(x, first, second)
        return self.told.verdicts(prob, x, first, second) if self.told else prob

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> PerComparison:
        """The panel's reward, float64. Raises OracleError where it has none, and for a prompt outside the game."""
        if len(prompts) != len(responses):
            raise OracleError(f"score got {len(prompts)} prompts and {len(responses)} responses")
        if self.told:
            raise OracleError("votes compare two responses and score none; use a panel without votes")
        return self.game.reward[_rows(prompts), _columns(responses)]


class LargeGroupOracle(LargeOracle):
    """The panel "users" as an oracle: comparisons of a user drawn at random, and each group's reward by name."""

    @property
    def attributes(self) -> tuple[str, ...]:
        return self.game.groups

    def scores(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        """[N, G] each group's reward, float64. Raises OracleError for a prompt outside the game."""
        return self.game.group_rewards[:, _rows(prompts), _columns(responses)].T


def _columns(responses: Sequence[str]) -> Tensor:
    columns = (answer_index(text) for text in responses)
    return torch.tensor([len(ANSWERS) if index is None else index for index in columns], dtype=torch.long)


def _rows(prompts: Sequence[OraclePrompt]) -> Tensor:
    return torch.tensor([_row(prompt) for prompt in prompts], dtype=torch.long)


def _row(prompt: OraclePrompt) -> int:
    """The request's index; of a chat, the last message is the request."""
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"] if prompt else ""
    index = request_index(text)
    if index is None:
        raise OracleError(
            f"{shortened(text)} is not a request of the large tea house; use one of LargeTeaHouse().prompts"
        )
    return index
