"""Search trees as players: pairs of steps or responses (MCTS-DPO), and ranked lists of paths (TPO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np

from equipoise.play.capabilities import StepContinuation, StepCut, needing
from equipoise.play.needs import NOTHING, ORACLE, ORACLE_WITH_SCORES, Needs
from equipoise.play.players.protocol import Players
from equipoise.play.rows import Rows, objects
from equipoise.play.state import State
from equipoise.play.trees.growth import Expansion, Growing, Outcome
from equipoise.play.trees.readings import (
    TreePair,
    ends_of,
    fragment_pairs,
    response_pair,
    step_pairs,
    steps_of,
)
from equipoise.play.trees.search import EveryStep, MonteCarlo, grow
from equipoise.play.trees.tree import Node, Tree
from equipoise.play.world import World

Level = Literal["step", "fragment", "response"]


@dataclass(frozen=True, kw_only=True)
class TreeSearch(Players):
    """Labelled pairs from a search tree of each prompt, grown by the policy (MCTS-DPO); see `trees.search.MonteCarlo`.

    level       "step": the best and the worst sibling by Q after each prefix of the chosen path, with the prefix as
                their lead and visit counts as label smoothing (`trees.readings.step_pairs`); "fragment": single
                steps at every node by the responses that end below them (`fragment_pairs`); "response": the best and
                the worst whole response of the same tree, with a hard label.
    pairs       most step pairs of a prompt; together they have the weight of one row.
    others      `iterations`, `exploration` of the search; `branch`, `depth`, `mark`, `step_tokens`, `outcome`,
                `opponents`, `self_evaluation` of `trees.growth.Growing`.

    A prompt whose tree prefers nothing gives no pair.
    """

    level: Level = "step"
    pairs: int = 8
    iterations: int = 64
    exploration: float = 1.0
    branch: int = 2
    depth: int = 3
    mark: str = "\n"
    step_tokens: int = 64
    outcome: Outcome = "correct"
    opponents: int = 2
    self_evaluation: bool = True

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            raise ValueError(f"level must be one of {', '.join(get_args(Level))}, got {self.level!r}")
        if self.pairs < 1:
            raise ValueError(f"pairs must be at least 1, got {self.pairs!r}")
        if self.branch < 2:
            raise ValueError(f"siblings are compared: branch must be at least 2, got {self.branch!r}")
        _ = self.search, self.growing  # refuse what is out of range

    @property
    def parameters(self) -> tuple[str, ...]:
        return (
            *("level", "pairs", "iterations", "exploration", "branch", "depth"),
            *("mark", "step_tokens", "outcome", "opponents", "self_evaluation"),
        )

    @property
    def search(self) -> MonteCarlo:
        return MonteCarlo(iterations=self.iterations, exploration=self.exploration)

    @property
    def growing(self) -> Growing:
        return Growing(
            branch=self.branch,
            depth=self.depth,
            cut=StepCut(mark=self.mark, longest=self.step_tokens),
            self_evaluation=self.self_evaluation,
            outcome=self.outcome,
            opponents=self.opponents,
        )

    @property
    def needs(self) -> Needs:
        return _needs(self.outcome)

    @property
    def capabilities(self) -> tuple[type, ...]:
        return self.growing.capabilities

    @property
    def width(self) -> int:
        return 2

    def write(self, world: World, state: State) -> Rows:
        return self.write_on(world, state, world.prompts(state))

    def write_on(self, world: World, state: State, prompts: Rows) -> Rows:
        """The pairs of these prompts, rows without responses."""
        trees = [Tree() for _ in range(len(prompts))]
        for _ in grow(trees, self.search, Expansion(world, state, prompts, self.growing)):
            pass
        return pair_rows(world, prompts, [self._read(tree) for tree in trees], str(self.growing.by))

    def _read(self, tree: Tree) -> list[TreePair]:
        if self.level == "step":
            return step_pairs(tree, self.pairs)
        if self.level == "fragment":
            return fragment_pairs(tree, most=self.pairs)
        pair = response_pair(tree)
        return [pair] if pair else []

    def writing(self, samples: int) -> TreeSearch:
        raise ValueError(
            "play.samples does not apply: a search tree writes as many steps as its settings say; set branch"
        )

    def describe(self) -> str:
        what = "responses" if self.level == "response" else "sibling steps"
        return f"pairs of {what} from a search tree of the policy, {self.branch} steps after each prefix"


@dataclass(frozen=True, kw_only=True)
class TreePaths(Players):
    """Scored lists of paths through a tree of steps that the policy grows (TPO, tree of thoughts).

    samples     paths of a list: the best, the worst and evenly spaced ones by reward; a prompt with fewer is left out.
    nodes       most nodes of a tree, which is grown breadth first.
    outcome     reward of a path: the oracle's "score", or its "win_rate" (`trees.growth.Growing`).
    others      `branch`, `depth`, `mark`, `step_tokens`, `opponents` as there.
    """

    samples: int = 4
    branch: int = 3
    depth: int = 3
    nodes: int = 40
    mark: str = "\n"
    step_tokens: int = 64
    outcome: Literal["score", "win_rate"] = "score"
    opponents: int = 2
    parameters: ClassVar[tuple[str, ...]] = (
        *("branch", "depth", "nodes", "mark", "step_tokens", "outcome", "opponents"),
    )

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"a list needs at least two paths, got {self.samples!r}")
        if self.outcome not in ("score", "win_rate"):
            raise ValueError(f"outcome must be score or win_rate, got {self.outcome!r}")
        _ = self.growing

    @property
    def needs(self) -> Needs:
        return _needs(self.outcome)

    @property
    def growing(self) -> Growing:
        return Growing(
            branch=self.branch,
            depth=self.depth,
            cut=StepCut(mark=self.mark, longest=self.step_tokens),
            self_evaluation=False,
            outcome=self.outcome,
            opponents=self.opponents,
        )

    @property
    def capabilities(self) -> tuple[type, ...]:
        return self.growing.capabilities

    @property
    def width(self) -> int:
        return self.samples

    def write(self, world: World, state: State) -> Rows:
        prompts = world.prompts(state)
        trees = [Tree() for _ in range(len(prompts))]
        for _ in grow(trees, EveryStep(self.nodes), Expansion(world, state, prompts, self.growing)):
            pass
        ends = [sorted(ends_of(tree), key=lambda node: -node.value) for tree in trees]
        kept = [i for i, own in enumerate(ends) if len(own) >= self.samples]
        joins = needing(world, StepContinuation).joined_steps
        chosen = [[ends[i][k] for k in self._spread(len(ends[i]))] for i in kept]
        responses = [[joins(steps_of(node.path)) for node in own] for own in chosen]
        rows = prompts.take(np.array(kept, dtype=np.intp))
        rows = rows.append(objects(responses, width=self.samples), "path")
        rows = replace(rows, writers=tuple(f"path {k + 1}" for k in range(self.samples)))
        reward = [[node.value for node in own] for own in chosen]
        return replace(rows, reward=np.array(reward, dtype=np.float64).reshape(len(kept), self.samples))

    def _spread(self, count: int) -> list[int]:
        return np.linspace(0, count - 1, self.samples).round().astype(int).tolist()

    def writing(self, samples: int) -> TreePaths:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} paths through a tree of steps of the policy, {self.branch} after each prefix"


def pair_rows(world: World, prompts: Rows, pairs: Sequence[Sequence[TreePair]], writer: str) -> Rows:
    """The pairs of each prompt's tree as rows, preferred first; a prompt's weight is shared among its pairs."""
    at = [i for i, own in enumerate(pairs) for _ in own]
    joins = needing(world, StepContinuation).joined_steps

    def response(nodes: Sequence[Node]) -> object:
        return joins(steps_of(nodes))

    groups = [[response(pair.better), response(pair.worse)] for own in pairs for pair in own]
    rows = prompts.take(np.array(at, dtype=np.intp)).append(objects(groups, width=2), writer)
    rows = replace(rows, writers=(f"{writer}, preferred", f"{writer}, dispreferred"))
    share = np.array([1 / len(own) for own in pairs for _ in own])
    smoothing = np.array([pair.smoothing for own in pairs for pair in own])
    return replace(rows, weight=rows.weight * share, prob=1 - smoothing)


def _needs(outcome: str) -> Needs:
    """What a tree must be given: nothing without outcomes, an oracle that compares, or one that scores."""
    return {"none": NOTHING, "win_rate": ORACLE}.get(outcome, ORACLE_WITH_SCORES)
