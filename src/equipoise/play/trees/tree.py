"""Search tree over the steps of a response: nodes are prefixes, with visit counts, values and priors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import exp, sqrt

from equipoise.play.capabilities import Step


@dataclass(eq=False)
class Node:
    """A prefix of a response, or a whole one.

    step      the step that leads here; None: the empty response.
    value     how good the prefix is by itself: self-evaluation, and the outcome reward of a whole response.
    over      whether the response is over here.
    children  candidate next steps; None: not expanded.
    visits    N, the number of back-ups through the node.
    v         V, value of the children: sum_c max(1, N_c) Q_c / sum_c max(1, N_c).
    q         Q = r + gamma V, with the reward r = value - parent's value.
    """

    step: Step | None = None
    parent: Node | None = None
    value: float = 0.0
    over: bool = False
    number: int = 0
    children: list[Node] | None = None
    visits: int = 0
    v: float = 0.0
    q: float = field(init=False)

    def __post_init__(self) -> None:
        self.depth: int = 0 if self.parent is None else self.parent.depth + 1
        self.q = self.reward + (0.0 if self.parent is None else self.parent.v)

    @property
    def reward(self) -> float:
        """r: by how much the step raises the value of what is written."""
        return self.value - (0.0 if self.parent is None else self.parent.value)

    def prior(self, length_penalty: float) -> float:
        """p = exp( log pi(step) / length^penalty )."""
        assert self.step is not None
        return exp(self.step.logp / max(1, self.step.length) ** length_penalty)

    def upper(self, exploration: float, length_penalty: float) -> float:
        """PUCT: Q + c p sqrt(N_parent) / (1 + N)."""
        assert self.parent is not None
        bonus = self.prior(length_penalty) * sqrt(self.parent.visits) / (1 + self.visits)
        return self.q + exploration * bonus

    @property
    def path(self) -> list[Node]:
        """The nodes from the root to this one."""
        return [self] if self.parent is None else [*self.parent.path, self]


@dataclass(frozen=True)
class Choice:
    """A step that the search chose: the siblings after one prefix, with their Q and visits at that time."""

    siblings: tuple[Node, ...]
    q: tuple[float, ...]
    visits: tuple[int, ...]
    chosen: int


@dataclass(eq=False)
class Tree:
    """The tree of one prompt, with the choices of steps that a search has made, from the root on."""

    root: Node = field(default_factory=Node)
    choices: list[Choice] = field(default_factory=list)
    size: int = 1

    def choose(self, node: Node, chosen: int) -> Node:
        """Note that the search goes on after a child of the node, and return this child."""
        children = tuple(node.children or ())
        q, visits = tuple(c.q for c in children), tuple(c.visits for c in children)
        self.choices.append(Choice(children, q, visits, chosen))
        return children[chosen]

    def expand(self, node: Node, steps: Sequence[Step], values: Sequence[float]) -> None:
        """Give a node its children, numbered in the order in which they were sampled."""
        node.children = []
        for step, value in zip(steps, values, strict=True):
            node.children.append(Node(step, node, value, step.over, self.size))
            self.size += 1

    def nodes(self) -> Iterator[Node]:
        """All nodes, parents before children."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop(0)
            yield node
            waiting += node.children or []


def back_up(path: Sequence[Node], gamma: float) -> None:
    """Back-up along a path, its last node first: N, V and Q of every node on it."""
    last = path[-1]
    last.q = last.reward + gamma * last.v
    last.visits += 1
    for node in reversed(path[:-1]):
        children = node.children or []
        weight = [max(1, child.visits) for child in children]
        node.v = sum(w * child.q for w, child in zip(weight, children, strict=True)) / sum(weight)
        node.visits += 1
        if node.parent is not None:
            node.q = node.reward + gamma * node.v
