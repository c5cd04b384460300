"""Tree search over steps beside the authors' code of MCTS-DPO, and its limits by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from equipoise.play.capabilities import Step
from equipoise.play.trees.readings import ends_of, response_pair, step_pairs, visit_smoothing
from equipoise.play.trees.search import EveryStep, MonteCarlo, grow
from equipoise.play.trees.tree import Node, Tree, back_up

CASES = json.loads(Path(__file__).with_name("mcts_dpo_trees.json").read_text())["cases"]
Path_ = tuple[int, ...]
Steps = dict[Path_, tuple[float, int, float, bool]]  # path -> log-prob, length, value, over


def path_of(node: Node) -> Path_:
    return tuple(n.step.response for n in node.path if n.step is not None)


def expanding(steps: Steps) -> Callable[[Sequence[tuple[int, Tree, Node]]], None]:
    """Children of a node are those that a table of steps has for its path."""

    def expand(asked: Sequence[tuple[int, Tree, Node]]) -> None:
        for _, tree, node in asked:
            at, found, k = path_of(node), [], 0
            while (*at, k) in steps:
                logp, length, value, over = steps[(*at, k)]
                found.append((Step(k, k, logp, length, over), value))
                k += 1
            tree.expand(node, [step for step, _ in found], [value for _, value in found])

    return expand


def table(case: dict[str, Any]) -> Steps:
    return {
        tuple(s["path"]): (sum(s["logps"]), len(s["logps"]), s["value"], s["over"]) for s in case["steps"]
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['iterations']}-iterations")
def test_visits_and_values_are_those_of_the_authors_code(case: dict[str, Any]):
    tree = Tree()
    list(grow([tree], MonteCarlo(iterations=case["iterations"]), expanding(table(case))))
    theirs = {tuple(node["path"]): node for node in case["nodes"]}
    ours = {path_of(node): node for node in tree.nodes()}
    assert ours.keys() == theirs.keys()
    for path, node in ours.items():
        assert node.visits == theirs[path]["visits"]
        assert node.v == pytest.approx(theirs[path]["v"], abs=1e-12)
        if path:  # the root's Q is never read
            assert node.q == pytest.approx(theirs[path]["q"], abs=1e-12)
    assert [c.chosen for c in tree.choices] == [move["chosen"] for move in case["moves"]]
    for choice, move in zip(tree.choices, case["moves"], strict=True):
        assert choice.visits == tuple(move["visits"])
        assert choice.q == pytest.approx(move["q"], abs=1e-12)


def leaf(value: float, logp: float = -1.0, length: int = 1) -> tuple[float, int, float, bool]:
    return (logp, length, value, True)


def test_a_tree_depends_on_its_own_steps_alone():
    grown = {}
    for together in (True, False):
        trees = [Tree() for _ in CASES[:2]]
        tables = [expanding(table(case)) for case in CASES[:2]]

        def expand(asked: Sequence[tuple[int, Tree, Node]], tables: Any = tables, trees: Any = trees) -> None:
            for one in asked:
                tables[trees.index(one[1])]([one])

        search = MonteCarlo(iterations=4)
        for part in [trees] if together else [[tree] for tree in trees]:
            list(grow(part, search, expand))
        grown[together] = [[(path_of(n), n.visits, n.q, n.v) for n in tree.nodes()] for tree in trees]
    assert grown[True] == grown[False]


def test_puct_by_hand():
    root = Node(visits=9)
    child = Node(Step(0, 0, -2.0, 4, False), root, 0.5, visits=2)
    assert child.upper(0.0, 1.25) == 0.5
    assert child.prior(1.0) == pytest.approx(2.718281828459045 ** (-2 / 4))
    assert child.upper(2.0, 1.0) == pytest.approx(0.5 + 2 * child.prior(1.0) * 3 / 3)


def test_q_of_an_only_child_is_reward_plus_its_value():
    tree = Tree()
    tree.expand(tree.root, [Step(0, 0, -1.0, 1, False)], [0.25])
    (only,) = tree.root.children or ()
    tree.expand(only, [Step(0, 0, -1.0, 1, True)], [1.0])
    (end,) = only.children or ()
    back_up([tree.root, only, end], gamma=0.5)
    assert end.q == 0.75
    assert only.v == 0.75
    assert only.q == 0.25 + 0.5 * 0.75
    assert tree.root.v == only.q


def test_without_exploration_the_search_is_greedy_in_q():
    steps: Steps = {(0,): leaf(0.4), (1,): leaf(0.5), (2,): leaf(-1.0, logp=-1e-3)}
    tree = Tree()
    list(grow([tree], MonteCarlo(iterations=6, first=1, exploration=0.0), expanding(steps)))
    assert [child.visits for child in tree.root.children or ()] == [0, 6, 0]


@pytest.mark.parametrize(
    "won, lost, alpha", [(3, 1, 0.25), (0, 0, 0.0), (0, 1, 0.5), (2, 5, 0.5), (4, 4, 0.5)]
)
def test_smoothing_by_visit_counts(won: int, lost: int, alpha: float):
    assert visit_smoothing(won, lost) == alpha


def test_pairs_are_extreme_siblings_and_steps_without_siblings_join():
    steps: Steps = {
        (0,): (-1.0, 1, 0.0, False),
        (0, 0): (-1.0, 1, 0.0, False),
        (0, 0, 0): leaf(1.0),
        (0, 0, 1): leaf(0.5),
        (1,): leaf(-1.0),
        (2,): leaf(0.2),
    }
    tree = Tree()
    list(grow([tree], MonteCarlo(iterations=20), expanding(steps)))
    first, second = step_pairs(tree)
    assert [path_of(n) for n in first.better] == [(0,), (0, 0)]
    assert [path_of(n) for n in first.worse] == [(1,)]
    assert [path_of(n) for n in (*second.better, *second.worse)] == [(0, 0, 0), (0, 0, 1)]
    assert len(step_pairs(tree, most=1)) == 1
    whole = response_pair(tree)
    assert whole is not None
    assert path_of(whole.better[-1]) == (0, 0, 0)
    assert path_of(whole.worse[-1]) == (1,)
    assert whole.smoothing == 0


def test_siblings_of_equal_value_and_visits_give_no_pair():
    tree = Tree()
    list(grow([tree], MonteCarlo(iterations=2, first=1), expanding({(0,): leaf(0.3), (1,): leaf(0.3)})))
    assert {child.visits for child in tree.root.children or ()} == {1}
    assert step_pairs(tree) == []
    assert response_pair(tree) is None


def test_full_growth_writes_every_response_once_and_stops_at_its_bound():
    steps = table(CASES[0])
    tree = Tree()
    list(grow([tree], EveryStep(most=1000), expanding(steps)))
    assert {path_of(node) for node in ends_of(tree)} == {p for p, (_, _, _, over) in steps.items() if over}
    small = Tree()
    list(grow([small], EveryStep(most=3), expanding(steps)))
    assert small.size == 3


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"gamma": 0.0}, {"exploration": -1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="got"):
        MonteCarlo(**wrong)
