"""Growth of search trees in a world: candidate steps by the policy, and the value of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from equipoise.play.capabilities import (
    OutcomeScores,
    SelfEvaluation,
    Step,
    StepContinuation,
    StepCut,
    needing,
)
from equipoise.play.rows import Rows, objects
from equipoise.play.state import START, Floats, State, Who
from equipoise.play.trees.tree import Node, Tree
from equipoise.play.world import World

Outcome = Literal["correct", "score", "win_rate", "none"]
RIGHT, WRONG = 1.25, -1.0  # outcome rewards of the authors' code
PATIENCE = 3  # steps before self-evaluation is discounted by depth


@dataclass(frozen=True, kw_only=True)
class Growing:
    """How trees grow, and how their nodes are valued.

        value(prefix) = confidence / max(1, depth - 3)  (the parent's value where that is 0)
                        + the outcome reward, where the response is over

    branch           candidate steps of a node; equal ones are merged.
    depth            most steps of a response; the last one is the rest of it, sampled once. 0: no limit.
    cut              where a step ends.
    self_evaluation  whether confidence is the policy's own, P("correct"); else it is 0.
    outcome          "correct": 1.25 where the oracle's score is above 1/2, else -1; "score": the oracle's score itself;
                     "win_rate": 2 P(y beats y') - 1, the mean over `opponents` samples y' of the policy; "none": 0.
    by               the policy that writes.

    Raises ValueError for settings out of range.

    Source: Xie et al. 2024 (2405.00451), checked against the authors' code; "score" and "win_rate" are ours.
    """

    branch: int = 2
    depth: int = 3
    cut: StepCut = field(default_factory=StepCut)
    self_evaluation: bool = True
    outcome: Outcome = "correct"
    opponents: int = 2
    by: Who = START

    def __post_init__(self) -> None:
        if self.outcome not in get_args(Outcome):
            raise ValueError(f"outcome must be one of {', '.join(get_args(Outcome))}, got {self.outcome!r}")
        if self.branch < 1 or self.depth < 0 or self.opponents < 1:
            raise ValueError(
                f"need branch >= 1, depth >= 0 and opponents >= 1, got {self.branch}, {self.depth}, {self.opponents}"
            )

    @property
    def capabilities(self) -> tuple[type, ...]:
        own: tuple[type, ...] = (StepContinuation,)
        own += (SelfEvaluation,) if self.self_evaluation else ()
        return own + ((OutcomeScores,) if self.outcome in ("correct", "score") else ())


class Expansion:
    """Expands nodes of the trees of a round's prompts: `Expand` of `trees.search`.

    prompts   one row for each tree, without responses.
    """

    def __init__(self, world: World, state: State, prompts: Rows, growing: Growing) -> None:
        self.world, self.state, self.prompts, self.growing = world, state, prompts, growing
        self.met: Rows | None = None  # the samples that whole responses are compared with

    def __call__(self, asked: Sequence[tuple[int, Tree, Node]]) -> None:
        steps: list[list[Step]] = [[] for _ in asked]
        for last in (False, True):  # a step up to its mark, or the rest of the response
            at = [k for k, (_, _, node) in enumerate(asked) if self._is_last(node) == last]
            for k, found in zip(at, self._sampled([asked[k] for k in at], last=last), strict=True):
                steps[k] = found
        values = iter(
            self._values([(i, node, s) for (i, _, node), own in zip(asked, steps, strict=True) for s in own])
        )
        for (_, tree, node), own in zip(asked, steps, strict=True):
            tree.expand(node, own, [next(values) for _ in own])

    def _is_last(self, node: Node) -> bool:
        return self.growing.depth > 0 and node.depth + 1 >= self.growing.depth

    def _sampled(self, asked: Sequence[tuple[int, Tree, Node]], *, last: bool) -> list[list[Step]]:
        """Distinct candidate steps of each node; random streams are addressed by prompt and node."""
        if not asked:
            return []
        begun = [[None if node.step is None else node.step.response] for _, _, node in asked]
        rows = self.prompts.take(np.array([i for i, _, _ in asked])).append(objects(begun, width=1), "begun")
        found = needing(self.world, StepContinuation).next_steps(
            self.state,
            rows,
            self.growing.by,
            1 if last else self.growing.branch,
            cut=replace(self.growing.cut, mark=None) if last else self.growing.cut,
            places=[node.number * len(self.prompts) + i for i, _, node in asked],
        )
        return [list({step.key: step for step in steps if step.length}.values()) for steps in found]

    def _values(self, found: Sequence[tuple[int, Node, Step]]) -> list[float]:
        """The value of the prefix that each step leads to."""
        if not found:
            return []
        rows = self._rows(found)
        confidence = np.zeros(len(found))
        if self.growing.self_evaluation:
            asks = needing(self.world, SelfEvaluation)
            confidence = asks.confidences(self.state, rows, self.growing.by)[:, 0]
        values = [
            sure / max(1, node.depth - PATIENCE) or node.value
            for sure, (_, node, _) in zip(confidence.tolist(), found, strict=True)
        ]
        over = np.array([k for k, (_, _, step) in enumerate(found) if step.over], dtype=np.intp)
        for k, reward in zip(over, self.outcomes([found[k] for k in over]), strict=True):
            values[k] += float(reward)
        return values

    def outcomes(self, found: Sequence[tuple[int, Node, Step]]) -> Floats:
        """Outcome reward of whole responses."""
        if not found or self.growing.outcome == "none":
            return np.zeros(len(found))
        rows = self._rows(found)
        if self.growing.outcome == "win_rate":
            return self._win_rates(rows, [i for i, _, _ in found])
        scores = needing(self.world, OutcomeScores).outcomes(rows)[:, 0]
        return scores if self.growing.outcome == "score" else np.where(scores > 0.5, RIGHT, WRONG)

    def _rows(self, found: Sequence[tuple[int, Node, Step]]) -> Rows:
        responses = objects([[step.response] for _, _, step in found], width=1)
        return self.prompts.take(np.array([i for i, _, _ in found])).append(responses, str(self.growing.by))

    def _win_rates(self, rows: Rows, at: Sequence[int]) -> Floats:
        if self.met is None:
            by, count = self.growing.by, self.growing.opponents
            self.met = self.world.sample(self.state, self.prompts, by, count)
        both = rows.append(self.met.responses[np.array(at)], str(self.growing.by))
        own = np.zeros(len(both), dtype=np.intp)
        wins = [
            self.world.compare(both, own, np.full_like(own, 1 + j)) for j in range(self.growing.opponents)
        ]
        return 2 * np.mean(wins, axis=0) - 1
