"""Pairs of fragments by hand: the children of every node, by the responses that end below them (iTool)."""

from __future__ import annotations

import pytest

from equipoise.play.capabilities import Step
from equipoise.play.trees.readings import fragment_pairs
from equipoise.play.trees.tree import Node, Tree


def step(name: str, over: bool = False) -> Step:
    return Step(name, name, -1.0, 1, over)


def grown() -> Tree:
    """First steps a, b and c. b ends, worth 0.25; a0 after a ends, worth 1; after a1 two end, worth 0.9 and 0.1."""
    tree = Tree()
    tree.expand(tree.root, [step("a"), step("b", True), step("c")], [0.0, 0.25, 0.0])
    a = (tree.root.children or [])[0]
    tree.expand(a, [step("a0", True), step("a1")], [1.0, 0.0])
    tree.expand((a.children or [])[1], [step("x", True), step("y", True)], [0.9, 0.1])
    return tree


def names(nodes: list[Node]) -> list[str]:
    return [node.step.response for node in nodes if node.step is not None]


def test_children_are_compared_by_the_mean_of_what_ends_below_them():
    """x over y differ by 0.8; a0 (1) over a1 (mean 0.5) by 0.5; a (mean of 1, 0.9 and 0.1) over b (0.25) by 0.42."""
    pairs = fragment_pairs(grown())
    found = [(names(list(pair.better)), names(list(pair.worse)), pair.smoothing) for pair in pairs]
    assert found == [(["x"], ["y"], 0.0), (["a0"], ["a1"], 0.0), (["a"], ["b"], 0.0)]


@pytest.mark.parametrize("least, most, count", [(0.0, 2, 2), (0.45, 8, 2), (0.6, 8, 1), (0.9, 8, 0)])
def test_small_differences_and_too_many_pairs_are_left_out(least: float, most: int, count: int):
    assert len(fragment_pairs(grown(), least, most)) == count


def test_equal_worth_and_a_tree_of_nothing_give_no_pair():
    tree = Tree()
    assert fragment_pairs(tree) == []
    tree.expand(tree.root, [step("a", True), step("b", True)], [0.5, 0.5])
    assert fragment_pairs(tree) == []
