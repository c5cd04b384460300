"""Comparisons read off search trees: pairs of sibling steps (MCTS-DPO), pairs of whole responses, lists of paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from equipoise.play.trees.tree import Node, Tree

ROUNDING = 1e-9  # differences of Q that are none


class TreePair(NamedTuple):
    """A preferred and a dispreferred continuation of one prefix; `smoothing` is alpha, the share of the label that
    goes to the other order."""

    better: Sequence[Node]
    worse: Sequence[Node]
    smoothing: float


def step_pairs(tree: Tree, most: int = 8) -> list[TreePair]:
    """Step pairs along the chosen path: the siblings of largest and of smallest Q after each of its prefixes.

        alpha = min(1/2, N_l/(N_l + max(1, N_w)))     N_w, N_l visits of the preferred and the dispreferred step

    Q and visits are those at the time of the choice. Siblings with equal Q give no pair: their visits follow the
    prior alone (the authors' code prefers the more visited one). A step without siblings joins the one before it, so
    that a pair's continuations may have several steps.

    most   of the pairs; the first ones are kept.

    Source: Xie et al. 2024 (2405.00451), checked against the authors' code.
    """
    pairs = []
    for choice in tree.choices:
        ranked = sorted(zip(choice.q, choice.visits, choice.siblings, strict=True), key=lambda s: s[:2])
        (low, less, worse), (high, more, better) = ranked[0], ranked[-1]
        if high - low > ROUNDING:
            pairs.append(TreePair(_chain(better), _chain(worse), visit_smoothing(more, less)))
    return pairs[:most]


def fragment_pairs(tree: Tree, least: float = 0.0, most: int = 8) -> list[TreePair]:
    """Pairs of single steps at every node: of its children, those whose whole responses are worth most and least.

        worth(step) = mean value of the responses that end below it;    a pair where worths differ by more than `least`

    A child below which no response has ended takes no part. The label is hard. Pairs of the largest differences come
    first.

    most   of the pairs.

    Source: Zeng et al. 2025 (2501.09766), whose code compares the children of every node; the mean is ours.
    """
    found = []
    for node in tree.nodes():
        worths = [(_worth(child), child) for child in node.children or ()]
        ended = [(worth, child) for worth, child in worths if worth is not None]
        if len(ended) > 1:
            low, high = min(ended, key=lambda e: e[0]), max(ended, key=lambda e: e[0])
            if high[0] - low[0] > least:
                found.append((high[0] - low[0], TreePair([high[1]], [low[1]], 0.0)))
    return [pair for _, pair in sorted(found, key=lambda f: -f[0])[:most]]


def _worth(node: Node) -> float | None:
    """Mean value of the responses that end below a node; None if none has."""
    waiting, values = [node], []
    while waiting:
        one = waiting.pop()
        values += [one.value] if one.over else []
        waiting += one.children or []
    return sum(values) / len(values) if values else None


def visit_smoothing(preferred: int, dispreferred: int) -> float:
    """alpha = min(1/2, N_l/(N_l + max(1, N_w))): 0 where the worse step was never visited, at most 1/2."""
    return min(0.5, dispreferred / (dispreferred + max(1, preferred)))


def response_pair(tree: Tree) -> TreePair | None:
    """Instance-level pair of a tree: its whole responses of largest and smallest value; None if all are equal."""
    ends = ends_of(tree)
    worse, better = (min(ends, key=_value), max(ends, key=_value)) if ends else (tree.root, tree.root)
    return TreePair(better.path[1:], worse.path[1:], 0.0) if worse.value < better.value else None


def ends_of(tree: Tree) -> list[Node]:
    """The whole responses of a tree, in the order in which they were written."""
    return sorted((node for node in tree.nodes() if node.over), key=lambda node: node.number)


def steps_of(nodes: Sequence[Node]) -> list[Any]:
    """The world's records of the steps that lead to each node; the root has none."""
    return [node.step.response for node in nodes if node.step is not None]


def _value(node: Node) -> float:
    return node.value


def _chain(node: Node) -> list[Node]:
    """A step, and those after it that have no siblings."""
    chain = [node]
    while len(chain[-1].children or ()) == 1:
        chain += chain[-1].children or ()
    return chain
