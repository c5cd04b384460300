"""The language game: requests to a tea house, answers, and an oracle that is known exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Literal, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core.dims import PerComparison
from equipoise.games.preference import PreferenceGame
from equipoise.oracles.protocol import OracleError, OraclePrompt, shortened
from equipoise.playground import panel
from equipoise.playground.grammar import (
    ANSWERS,
    REQUESTS,
    STYLES,
    TIMES,
    answer_index,
    is_held_out,
    rationale,
    request_index,
)

Variant = Literal["intransitive", "transitive", "groups"]
USERS = 20  # of the variant "groups"

# Probability that an answer inside the grammar beats a text outside it.
INSIDE_WINS = 0.99


class Enumerated(Protocol):
    """What recorded feedback is drawn from: a game whose answers are the same for every prompt, and all known.

    prompts, responses    X texts, A texts.     train    indices of the prompts to train on
    groups, group_rewards, group_of    groups of users, none in most games
    """

    @property
    def prompts(self) -> tuple[str, ...]: ...

    @property
    def responses(self) -> tuple[str, ...]: ...

    @property
    def train(self) -> list[int]: ...

    @property
    def groups(self) -> tuple[str, ...]: ...

    @property
    def group_rewards(self) -> Tensor: ...

    def group_of(self, user: int) -> int: ...

    def prefers(self, prompt: Tensor, a: Tensor, b: Tensor) -> Tensor: ...

    def win_rates(self, policy: Tensor) -> Tensor: ...

    def rationale(self, prompt: int, better: int, worse: int) -> str: ...

    def styles(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class LanguageGame:
    """X = 96 requests, each with the same A = 24 answers, and P(a beats b | request) known exactly.

    variant      "intransitive": the majority of three judges, with Condorcet cycles over the style;
                 "transitive": the host alone, exactly Bradley-Terry, P = sigma(reward(a) - reward(b));
                 "groups": two groups of users, three in four and one in four, who agree on everything but the
                 style and like the styles in opposite orders; P is that of a user drawn at random.
    prompts      X request texts
    responses    the A answer texts, the same for every prompt
    train        indices of the 64 training prompts
    held_out     indices of the other 32, new combinations of the same words

    Raises ValueError for an unknown variant.
    """

    variant: Variant = "intransitive"

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {get_args(Variant)}, got {self.variant!r}")

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        return tuple(request.text for request in REQUESTS)

    @cached_property
    def responses(self) -> tuple[str, ...]:
        return tuple(answer.text for answer in ANSWERS)

    @cached_property
    def train(self) -> list[int]:
        return [index for index, request in enumerate(REQUESTS) if not is_held_out(request)]

    @cached_property
    def held_out(self) -> list[int]:
        return [index for index, request in enumerate(REQUESTS) if is_held_out(request)]

    @property
    def judges(self) -> tuple[panel.Judge, ...]:
        return {"intransitive": panel.PANEL, "transitive": (panel.HOST,), "groups": panel.GROUPS}[
            self.variant
        ]

    @cached_property
    def preference(self) -> Float[Tensor, "X A A"]:
        """P[x, a, b], the probability that answer a beats answer b to request x; float64, P + P^T = 1."""
        if self.variant == "groups":
            return panel.population(self.judges, panel.SHARES)
        return panel.preference(self.judges)

    @cached_property
    def group_rewards(self) -> Float[Tensor, "G X A1"]:
        """Each group's reward of each answer, and of every text outside the grammar; no groups but in "groups"."""
        if self.variant != "groups":
            return torch.empty(0, len(self.prompts), len(self.responses) + 1, dtype=torch.float64)
        return torch.stack([_with_floor(rewards) for rewards in panel.scores(self.judges)])

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of users, largest first; none but in the variant "groups"."""
        return ("majority", "minority") if self.variant == "groups" else ()

    def group_of(self, user: int) -> int:
        """The group of user number `user`: every fourth is of the minority."""
        return int(user % 4 == 3)

    @cached_property
    def preference_with_outside(self) -> Float[Tensor, "X A1 A1"]:
        """`preference` with a last row and column that stand for every text outside the grammar."""
        return _with_outside(self)

    @cached_property
    def reward(self) -> Float[Tensor, "X A"]:
        """The host's score of each answer. Raises OracleError for the panel, which has no scalar score."""
        if self.variant != "transitive":
            what = "a panel with cycles has" if self.variant == "intransitive" else "two groups of users have"
            raise OracleError(f"{what} no scalar score; compare pairs, or use LanguageGame('transitive')")
        return panel.scores(self.judges)[0]

    def prefers(self, prompt: Tensor, a: Tensor, b: Tensor) -> Float[Tensor, N]:
        """P(a beats b) of single comparisons, by index."""
        return self.preference[prompt, a, b]

    def win_rates(self, policy: Float[Tensor, "X A"]) -> Float[Tensor, "X A"]:
        """P(a beats an answer of the policy) of every answer."""
        return torch.einsum("xab,xb->xa", self.preference, policy)

    def rationale(self, prompt: int, better: int, worse: int) -> str:
        """What fits the request in the better answer and not in the worse one, see `grammar.rationale`."""
        return rationale(prompt, better, worse)

    def styles(self) -> Mapping[str, Tensor]:
        """Style -> [A] whether an answer has it."""
        return {style: torch.tensor([answer.style == style for answer in ANSWERS]) for style in STYLES}

    def domain(self, prompt: str) -> int:
        """The domain of a request: the time of day, which reverses the preferred order of styles."""
        return int(TIMES[1] in prompt)

    def oracle(self) -> GameOracle:
        """The judges as an oracle on strings."""
        return GroupOracle(self) if self.groups else GameOracle(self)

    def as_preference_game(self, reference: Float[Tensor, "X A"]) -> PreferenceGame:
        """The game for the exact solvers, with the given policy as its reference."""
        return PreferenceGame(self.preference, reference, names=self.responses, prompt_names=self.prompts)

    def describe(self) -> str:
        """The game in plain words: requests, answers and judges."""
        judging = {
            "intransitive": f"{len(self.judges)} judges vote. They agree on courtesy, size and temperature; "
            "on the style their majority is cyclic (black > green > mint > black in the morning, reversed in "
            "the evening), so the best play is a mixture.",
            "transitive": "The host alone judges, by a score (Bradley-Terry), so one answer is best.",
            "groups": "Three users in four rank the styles black > green > mint, the fourth mint > green > black; they "
            "agree on everything else.",
        }[self.variant]
        return (
            f"A tea house with {len(self.prompts)} requests ({len(self.train)} to train on, "
            f"{len(self.held_out)} held out) and {len(self.responses)} answers to each.\n"
            f"  request: {self.prompts[0]}\n  answer:  {self.responses[0]}\n"
            f"The weather asks for a temperature, the guest for a size, the mood favours a style. {judging}"
        )


class GameOracle:
    """Oracle of a language game on strings: exact, deterministic, insensitive to extra whitespace.

    A text outside the grammar loses to any answer inside it. With the panel the probability is 0.99. With the host
    its reward lies log(0.99/0.01) below the worst answer's, so the probability is at least 0.99 and the transitive
    variant stays exactly Bradley-Terry. Two texts outside the grammar tie.
    """

    def __init__(self, game: LanguageGame) -> None:
        self.game = game
        self._preference = game.preference_with_outside

    @property
    def name(self) -> str:
        return f"tea-house-{self.game.variant}"

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> PerComparison:
        """P(a[i] beats b[i] | prompts[i]), float64. Raises OracleError for a prompt outside the game."""
        if not len(prompts) == len(a) == len(b):
            raise OracleError(f"compare got {len(prompts)} prompts, {len(a)} and {len(b)} responses")
        return self._preference[_rows(prompts), _columns(a), _columns(b)]

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> PerComparison:
        """The host's reward, float64. Raises OracleError for the panel, and for a prompt outside the game."""
        if len(prompts) != len(responses):
            raise OracleError(f"score got {len(prompts)} prompts and {len(responses)} responses")
        return _reward_with_outside(self.game)[_rows(prompts), _columns(responses)]


class GroupOracle(GameOracle):
    """The variant "groups" as an oracle: comparisons of a user drawn at random, and each group's reward by name."""

    @property
    def attributes(self) -> tuple[str, ...]:
        return self.game.groups

    def scores(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        """[N, G] each group's reward, float64. Raises OracleError for a prompt outside the game."""
        return self.game.group_rewards[:, _rows(prompts), _columns(responses)].T


def _reward_with_outside(game: LanguageGame) -> Float[Tensor, "X A1"]:
    return _with_floor(game.reward)


def _with_floor(reward: Float[Tensor, "X A"]) -> Float[Tensor, "X A1"]:
    """The rewards, and one below all of them for every text outside the grammar."""
    floor = reward.min(1, keepdim=True).values - log(INSIDE_WINS / (1 - INSIDE_WINS))
    return torch.cat([reward, floor], dim=1)


def _with_outside(game: LanguageGame) -> Float[Tensor, "X A1 A1"]:
    """The preference table with a last row and column for every text outside the grammar."""
    if game.variant == "transitive":
        reward = _reward_with_outside(game)
        return torch.sigmoid(reward[:, :, None] - reward[:, None, :])
    size = len(game.responses) + 1
    table = torch.full((len(game.prompts), size, size), 0.5, dtype=torch.float64)
    table[:, :-1, :-1] = game.preference
    table[:, :-1, -1] = INSIDE_WINS
    table[:, -1, :-1] = 1 - INSIDE_WINS
    return table


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
            f"{shortened(text)} is not a request of the tea house; use one of LanguageGame().prompts"
        )
    return index
