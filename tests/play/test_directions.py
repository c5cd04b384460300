"""Directions among scores: unit vectors in their cone, prompts that tell them, the best response along them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from equipoise.data.collate import Prompt, Response
from equipoise.methods.index import get
from equipoise.play.directions import Telling, direction_of, directions, told
from equipoise.play.pairings.best_along import BestAlong
from equipoise.play.players.directed import Directed
from equipoise.play.rows import Rows, objects
from equipoise.play.state import State
from equipoise.worlds.table.world import TableWorld


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
    st.sampled_from([2, 4]),
    st.floats(-90, 0),
    st.floats(0, 90),
)
def test_directions_are_unit_vectors_in_their_cone(draws, scores, low, high):
    v = directions(np.array(draws).reshape(-1, scores), low, high)
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1, atol=1e-9)
    assert (v[:, 0] >= np.cos(np.deg2rad(max(-low, high))) - 1e-9).all()


def test_two_scores_have_the_released_models_weights():
    v = directions(np.array([[0.0, 0.3], [0.5, 0.3], [1.0, 0.3]]), -45, 45)
    assert [[round(100 * c) for c in row] for row in v] == [[71, -71], [100, 0], [71, 71]]
    telling = Telling()
    said = telling.template_of({"helpfulness": 0.8, "verbosity": -0.6})
    assert "80*helpfulness + -60*verbosity" in said and said.endswith("\n\n{prompt}")
    short = Telling("{values} {prompt}", ("low", "none", "high"))
    assert short.template_of({"a": -1.0, "b": 0.0}) == "low none {prompt}"
    assert short.template_of({"a": 1.0, "b": 0.5}) == "high high {prompt}"


def test_settings_that_cannot_be_read_are_refused_and_no_direction_is_equal_weights():
    for template in ("{prompt}", "{weights}", "{direction} {prompt}"):
        with pytest.raises(ValueError, match="holds"):
            Directed(template=template)
    for low, high in ((10.0, 0.0), (-200.0, 0.0), (0.0, float("nan"))):
        with pytest.raises(ValueError, match="angles"):
            Directed(low=low, high=high)
    with pytest.raises(ValueError, match="at least two scores"):
        BestAlong().check_scores(("a",))
    np.testing.assert_allclose(direction_of({}, ("a", "b"), 2), np.full((2, 2), 0.5**0.5))
    with pytest.raises(ValueError, match=r"named scores|templates? "):
        get("dpa").check_world(TableWorld)


@dataclass
class World:
    """A world whose policy answers with what it read, and whose oracle knows two scores."""

    named: Mapping[str, np.ndarray]
    asked: list[str] = field(default_factory=list)
    made: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def prompts(self, state: State) -> Rows:
        prompts = [Prompt((n,), f"prompt {n}", f"prompt {n}") for n in range(3)]
        return Rows(
            prompts=objects(prompts),
            responses=np.empty((3, 0), dtype=object),
            weight=np.ones(3),
            writers=(),
        )

    def named_scores(self, rows: Rows) -> Mapping[str, np.ndarray]:
        return {name: values[: len(rows), : rows.responses.shape[1]] for name, values in self.named.items()}

    def uniforms(self, state: State, name: str, count: int) -> np.ndarray:
        return np.array([0.0, 0.0, 0.5, 0.0, 1.0, 0.0])

    def conditioned(self, rows: Rows, templates: Sequence[str]) -> Rows:
        self.asked = [by.replace("{prompt}", p.text) for p, by in zip(rows.prompts, templates, strict=True)]
        ids = [(*p.ids, 7) for p in rows.prompts]
        return replace(
            rows, prompts=objects([Prompt(i, p.context) for i, p in zip(ids, rows.prompts, strict=True)])
        )

    def sample(self, state: State, rows: Rows, by: Any, count: int) -> Rows:
        groups = [[Response((k,), f"{k}") for k in range(count)] for _ in rows.prompts]
        return rows.append(objects(groups, width=count), str(by))

    def cached(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        if name not in self.made:
            self.made[name] = make(0)
        return self.made[name]


A = np.array([[3.0, 1.0, 2.0]] * 3)
B = np.array([[0.0, 1.0, 8.0]] * 3)
STATE = State(round=1, policies={})


def chosen(b: np.ndarray, **options: Any) -> tuple[World, Rows]:
    world: Any = World({"a": A, "b": b})
    rows = Directed(samples=3, low=0, high=90, template="{weights}: {prompt}").write(world, STATE)
    return world, BestAlong(**options).form(world, STATE, rows)


def test_the_best_along_each_direction_is_imitated_under_its_prompt():
    world, rows = chosen(B, normalise=False)
    assert world.asked == ["100*a + 0*b: prompt 0", "71*a + 71*b: prompt 1", "0*a + 100*b: prompt 2"]
    # along a the first, the best of N by that score alone; in between and along b the third
    assert [r.ids for r in rows.responses[:, 0]] == [(0,), (2,), (2,)]
    assert [p.ids for p in rows.prompts] == [(0, 7), (1, 7), (2, 7)]
    assert [p.context for p in rows.prompts] == ["prompt 0", "prompt 1", "prompt 2"]
    assert rows.rewards.tolist() == [[1.0]] * 3 and rows.attributes["a"].tolist() == [[3.0], [2.0], [2.0]]


def test_units_of_a_score_do_not_matter_when_it_is_normalised():
    b = np.array([[0.0, 3.0, 1.0]] * 3)
    plain = [r.ids for r in chosen(b)[1].responses[:, 0]]
    assert plain == [r.ids for r in chosen(1000 * b + 5)[1].responses[:, 0]]
    assert plain != [r.ids for r in chosen(1000 * b + 5, normalise=False)[1].responses[:, 0]]


@settings(deadline=None)
@given(scale=st.floats(0.01, 100), angle=st.floats(0, 90))
def test_only_the_direction_matters(scale, angle):
    v = directions(np.array([[angle / 90, 0.0]] * 3), 0, 90)
    world: Any = World({"a": A, "b": B})
    base = world.sample(STATE, world.prompts(STATE), "start", 3)
    picks = [
        BestAlong(normalise=False)
        .form(world, STATE, replace(base, attributes=told(size * v, ("a", "b"), 3)))
        .responses[0, 0]
        .ids
        for size in (1.0, scale)
    ]
    assert picks[0] == picks[1]


def test_examples_are_unit_vectors_at_both_ends_and_the_middle():
    players = Directed(low=0, high=90)
    found = [direction for direction, _ in players.tellings(("a", "b", "c"))]
    assert [template for _, template in players.tellings(("a", "b", "c"))] == [
        *map(players.telling.template_of, found)
    ]
    half = 0.5**0.5
    for direction, expected in zip(found, [(1, 0, 0), (half, half, 0), (0, 1, 0)], strict=True):
        assert tuple(direction) == ("a", "b", "c")
        assert list(direction.values()) == pytest.approx(expected, abs=1e-6)
