"""Tree search over steps: Monte Carlo tree search with PUCT, and full breadth-first growth, batched over prompts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from equipoise.play.trees.tree import Node, Tree, back_up

# gives each (number of the tree, tree, node) its children, all in one batch
Expand = Callable[[Sequence[tuple[int, Tree, Node]]], None]
Growing = Generator[Node, None, None]  # asks for a node to be expanded, and goes on when it is


@dataclass(frozen=True, kw_only=True)
class MonteCarlo:
    """Monte Carlo tree search over the steps of a response, as MCTS-DPO does it.

        select      argmax_c Q_c + exploration p_c sqrt(N)/(1 + N_c),    p_c = exp( log pi(step)/length^penalty )
        expand      the candidate steps of the node that is reached, and so on down to the end of a response
        back up     V = sum_c max(1, N_c) Q_c / sum_c max(1, N_c),    Q = r + gamma V,    r = value - parent's value

    iterations       descents from the current root; `first` times as many from the empty response.
    After them the root moves to its most visited child, N (1 + gap of the visits of its children), ties by Q, and
    the search goes on there until the response is over. As in the authors' code a descent counts twice at its root.

    exploration      weight of the prior, >= 0; 0 is greedy in Q.
    length_penalty   exponent of a step's length in its prior.
    gamma            discount of a step, in (0, 1].

    Raises ValueError for settings out of range.

    Source: Xie et al. 2024 (2405.00451), checked against the authors' code.
    """

    iterations: int = 64
    first: int = 4
    exploration: float = 1.0
    length_penalty: float = 1.25
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.first < 1:
            raise ValueError(
                f"a search needs at least one iteration, got iterations={self.iterations}, first={self.first}"
            )
        if not self.exploration >= 0 or not 0 < self.gamma <= 1:
            raise ValueError(
                f"exploration must be >= 0 and gamma in (0, 1], got {self.exploration!r} and {self.gamma!r}"
            )

    def grow(self, tree: Tree) -> Growing:
        """The search of one tree, which asks for the nodes that it expands."""
        root = tree.root
        while not root.over:
            for _ in range(self.iterations * (self.first if root.parent is None else 1)):
                yield from self._descend(root)
            if not root.children:
                return
            preferences = [_preference(child) for child in root.children]
            root = tree.choose(root, preferences.index(max(preferences)))

    def _descend(self, root: Node) -> Growing:
        root.visits += 1
        path = [root]
        while path[-1].children and not path[-1].over:
            path.append(self._best(path[-1]))
        while not path[-1].over:
            yield path[-1]
            if not path[-1].children:
                break
            path.append(self._best(path[-1]))
        back_up(path, self.gamma)

    def _best(self, node: Node) -> Node:
        return max(node.children or (), key=lambda c: c.upper(self.exploration, self.length_penalty))


@dataclass(frozen=True)
class EveryStep:
    """Full growth: every node is expanded, level by level, until its response is over (tree of thoughts).

    most   most nodes of a tree; a level that would exceed it is expanded as far as it goes, first nodes first, and the
           other responses stay unfinished.
    """

    most: int = 256

    def grow(self, tree: Tree) -> Growing:
        waiting = [tree.root]
        while waiting and tree.size < self.most:
            node = waiting.pop(0)
            if not node.over:
                yield node
                waiting += node.children or []


def _preference(node: Node) -> tuple[float, float, float]:
    """How much a child is preferred as the next step: visits times the spread of its children's visits, then Q, V."""
    visits = [child.visits for child in node.children or ()]
    gap = max(visits) - min(visits) if visits else 0
    return node.visits * (gap + 1), node.q, node.v


def grow(trees: Sequence[Tree], search: MonteCarlo | EveryStep, expand: Expand) -> Iterator[int]:
    """Grow all trees side by side; each call of `expand` has the next node of every tree that is still growing.

    A tree depends on its own expansions alone, never on the others. Yields the number of trees that are finished.
    """
    growing = {i: search.grow(tree) for i, tree in enumerate(trees)}
    while growing:
        asked = []
        for i, steps in list(growing.items()):
            node = next(steps, None)
            if node is None:
                del growing[i]
            else:
                asked.append((i, trees[i], node))
        yield len(trees) - len(growing)
        if asked:
            expand(asked)
