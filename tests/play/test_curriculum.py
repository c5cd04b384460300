"""Difficulty of demonstrations: stages from easy to hard, and the prompts that a policy is deficient on (iTool)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from equipoise.play.players.curriculum import Deficient, EasyToHard, in_stages
from equipoise.play.players.protocol import Players
from equipoise.play.players.tree_search import TreeSearch
from equipoise.play.rows import Rows
from equipoise.play.state import State

LENGTHS = np.array([[5.0], [2.0], [9.0], [2.0], [7.0], [1.0]])
LOGP = np.array([[-1.0], [-4.0], [-9.0], [-0.2], [-21.0], [-0.1]])  # perplexity e^(.2, 2, 1, .1, 3, .1)


@dataclass
class Scores:
    """A world with six demonstrations, of known lengths and log-probs."""

    asked: list[str] = field(default_factory=list)

    def recorded(self, state: State) -> Rows:
        return Rows(
            prompts=np.arange(6),
            responses=np.arange(10, 16)[:, None],
            weight=LENGTHS[:, 0],
            writers=("recorded",),
            reward=np.ones((6, 1)),
        )

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(policy)
        return LOGP, LENGTHS


@dataclass(frozen=True)
class Echo(Players):
    """Writes each prompt's number twice."""

    width: int = 2

    def write_on(self, world: Any, state: State, prompts: Rows) -> Rows:
        assert prompts.responses.shape[1] == 0 and prompts.reward is None
        return prompts.append(np.repeat(prompts.prompts[:, None], 2, axis=1), "echo")

    def write(self, world: Any, state: State) -> Rows:
        raise AssertionError("it is given its prompts")

    def writing(self, samples: int) -> Echo:
        return Echo(samples)

    def describe(self) -> str:
        return "echo"


def at(round: int) -> State:
    return State(round=round, policies={})


def test_stages_go_from_easy_to_hard_and_equal_rows_keep_their_order():
    assert [part.tolist() for part in in_stages(LENGTHS[:, 0], 3)] == [[5, 1], [3, 0], [4, 2]]
    assert [part.tolist() for part in in_stages(np.zeros(5), 2)] == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("round, prompts", [(1, [5, 1]), (2, [3, 0]), (3, [4, 2]), (4, [5, 1])])
def test_a_round_trains_on_its_stage(round: int, prompts: list[int]):
    rows = EasyToHard(stages=3).write(Scores(), at(round))
    assert rows.prompts.tolist() == prompts and rows.writers == ("recorded",)
    assert rows.weight.tolist() == LENGTHS[prompts, 0].tolist() and rows.reward is not None


def test_difficulty_may_be_the_policys_perplexity():
    hardest = EasyToHard(stages=6, difficulty="perplexity").write(Scores(), at(6))
    assert hardest.prompts.tolist() == [4]


def test_the_prompts_of_the_most_perplexing_responses_are_written_for():
    world = Scores()
    rows = Deficient(base=Echo(), share=1 / 3).write(world, at(1))
    assert rows.prompts.tolist() == [1, 4] and world.asked == ["start"]
    assert rows.responses.tolist() == [[1, 1], [4, 4]] and rows.weight.tolist() == [1, 1]
    assert Deficient(base=Echo(), share=1.0).write(world, at(1)).prompts.tolist() == [*range(6)]
    assert Deficient(base=Echo(), share=0.01).write(world, at(1)).prompts.tolist() == [4]


def test_a_number_of_samples_is_that_of_the_base():
    players = Deficient(base=Echo())
    assert players.writing(4).base == Echo(4) and players.writing(4).width == 4
    with pytest.raises(ValueError, match=r"play\.samples does not apply"):
        Deficient(base=TreeSearch()).writing(4)


def test_what_cannot_be_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got 0"):
        Deficient(base=Echo(), share=0)
    with pytest.raises(ValueError, match="at least one stage, got 0"):
        EasyToHard(stages=0)
    with pytest.raises(ValueError, match="difficulty must be one of length, perplexity, got 'size'"):
        EasyToHard(difficulty="size")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples none"):
        EasyToHard().writing(2)
