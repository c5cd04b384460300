"""Search trees in a language model's world: steps continue what is written, and values are those of the game."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.oracles.checked import Checked
from equipoise.play.capabilities import StepCut
from equipoise.play.players.tree_search import TreePaths, TreeSearch
from equipoise.play.rows import objects
from equipoise.play.state import START
from equipoise.play.trees.growth import Expansion, Growing
from equipoise.play.trees.readings import ends_of, step_pairs
from equipoise.play.trees.search import EveryStep, MonteCarlo, grow
from equipoise.play.trees.tree import Tree
from equipoise.playground import LanguageGame
from equipoise.playground.grammar import answer_index, request_index
from equipoise.policy.generation.step_continuation import StepEnd, joined_steps
from equipoise.worlds.text.world import TextWorld

Make = Callable[..., TextWorld]
TRANSITIVE = LanguageGame("transitive")


@pytest.fixture
def world(make_world: Make, prompts) -> TextWorld:
    return make_world(oracle=Checked(TRANSITIVE.oracle()), pool=prompts[:6])


def test_a_step_continues_what_is_written_and_depends_on_its_address_alone(world: TextWorld):
    state = world.begin()
    rows = world.prompts(state).take(np.array([0, 1]))
    begun = world.sample(state, rows, START, 1).responses[:, 0]
    begun = [replace(r, ids=r.ids[:2]) for r in begun]
    rows = rows.append(objects([[r] for r in begun], width=1), "begun")
    cut = StepCut(mark="", longest=1)
    both = world.next_steps(state, rows, START, 3, cut=cut, places=[5, 9])
    for steps, head in zip(both, begun, strict=True):
        for step in steps:
            assert step.response.lead == head.ids
            assert len(step.response.ids) == step.length == 1
            whole = world.policy.tokenizer.decode([*head.ids, *step.response.ids], skip_special_tokens=True)
            assert step.response.text == whole
    alone = world.next_steps(state, rows.take(np.array([1])), START, 3, cut=cut, places=[9])
    assert [s.key for s in alone[0]] == [s.key for s in both[1]]
    assert [s.logp for s in alone[0]] == pytest.approx([s.logp for s in both[1]], abs=1e-5)
    batch = world.policy.batch([rows.prompts[1].ids], [[step.response for step in both[1]]])
    scored = world.policy.logprobs(batch)[0][0]
    assert [s.logp for s in both[1]] == pytest.approx(scored.tolist(), abs=1e-4)


def test_a_step_ends_with_its_mark_and_the_rest_is_one_step(world: TextWorld):
    state = world.begin()
    rows = world.prompts(state)
    rows = rows.append(objects([[None]] * len(rows), width=1), "begun")
    places = list(range(len(rows)))
    for (step,) in world.next_steps(state, rows, START, 1, cut=StepCut(mark="a", longest=9), places=places):
        words = step.response.text.split()
        assert "a" in words[-1] and not any("a" in word for word in words[:-1])
        assert not step.over
    (rest,) = world.next_steps(state, rows.take(np.array([0])), START, 1, cut=StepCut(mark=None), places=[0])[
        0
    ]
    assert rest.over and rest.response.finished


class Letters:
    """A tokenizer of single characters; token 0 is special."""

    all_special_ids = (0,)

    def __len__(self) -> int:
        return 128

    def decode(self, ids: list[int], **_: object) -> str:
        return "".join(chr(i) for i in ids if i)

    def batch_decode(self, rows: list[list[int]]) -> list[str]:
        return [self.decode(row) for row in rows]


@pytest.mark.parametrize(
    "mark, text, end", [("\n", "\n\nab\nc", 5), (". ", "a.b. c", 5), (" ", " ab c", 4), ("ab", "abab", 2)]
)
def test_the_end_of_a_step_is_where_the_mark_is_complete(mark: str, text: str, end: int):
    ended = StepEnd(Letters(), mark)
    ids = [ord(c) for c in text]
    assert next(k for k in range(1, len(ids) + 1) if ended(ids[:k])) == end


def test_values_of_whole_responses_are_exact_and_preferred_steps_lead_to_better_ones(world: TextWorld):
    """The language game's responses can be written down: the win rate of each, and the best that follows a prefix."""
    state = world.begin()
    prompts = world.prompts(state)
    growing = Growing(
        branch=3, depth=0, cut=StepCut(mark=""), self_evaluation=False, outcome="win_rate", opponents=3
    )
    expansion = Expansion(world, state, prompts, growing)
    trees = [Tree() for _ in range(len(prompts))]
    list(grow(trees, MonteCarlo(iterations=12), expansion))
    assert expansion.met is not None
    table, right = TRANSITIVE.preference_with_outside, []

    def column(text: str) -> int:
        index = answer_index(text)
        return 24 if index is None else index

    for i, tree in enumerate(trees):
        x = request_index(prompts.prompts[i].text)
        met = [column(r.text) for r in expansion.met.responses[i]]
        for end in ends_of(tree):
            assert end.step is not None
            exact = 2 * table[x, column(end.step.response.text), met].mean() - 1
            assert end.value == pytest.approx(float(exact), abs=1e-12)
        rewards = dict(zip(TRANSITIVE.responses, TRANSITIVE.reward[x].tolist(), strict=True))
        for pair in step_pairs(tree):
            better, worse = (joined_steps([n.step.response for n in side]) for side in pair[:2])
            best = [
                max((r for t, r in rewards.items() if t.startswith(y.text)), default=-9.0)
                for y in (better, worse)
            ]
            right.append(float(best[0] > best[1]))
    assert len(right) > 12
    assert np.mean(right) > 0.75


def test_a_search_gives_labelled_step_pairs_of_one_prefix(world: TextWorld):
    state = world.begin()
    players = TreeSearch(mark="", depth=0, iterations=4, branch=3, outcome="win_rate", self_evaluation=False)
    rows = players.write(world, state)
    assert rows.prob is not None and ((rows.prob >= 0.5) & (rows.prob <= 1)).all()
    for better, worse in rows.responses:
        assert better.lead == worse.lead
        assert better.ids[0] != worse.ids[0]  # the margin reads nothing that both share
    weight = {p.text: rows.weight[[q == p for q in rows.prompts]].sum() for p in rows.prompts}
    assert list(weight.values()) == pytest.approx([1.0] * len(weight))
    stored = world.stage(state, "sampling", lambda: rows)
    assert stored.responses.tolist() == rows.responses.tolist()
    assert stored.prob is not None and stored.prob.tolist() == rows.prob.tolist()


def test_the_correctness_of_an_answer_by_the_oracle_is_its_outcome(world: TextWorld):
    state = world.begin()
    prompts = world.prompts(state)
    for outcome in ("correct", "score"):
        growing = Growing(branch=2, depth=2, cut=StepCut(mark=""), self_evaluation=False, outcome=outcome)
        trees = [Tree() for _ in range(len(prompts))]
        list(grow(trees, EveryStep(), Expansion(world, state, prompts, growing)))
        for i, tree in enumerate(trees):
            x = request_index(prompts.prompts[i].text)
            for end in ends_of(tree):
                assert end.depth == 2 and end.step is not None
                index = answer_index(end.step.response.text)
                if index is not None:
                    score = float(TRANSITIVE.reward[x, index])
                    assert end.value == (score if outcome == "score" else 1.25 if score > 0.5 else -1.0)


def test_self_evaluation_is_a_probability_that_discounts_with_depth(world: TextWorld):
    state = world.begin()
    rows = world.sample(state, world.prompts(state), START, 2)
    sure = world.confidences(state, rows, START)
    assert sure.shape == (6, 2) and ((sure >= 0) & (sure <= 1)).all()


def test_paths_of_a_tree_are_a_list_best_first(world: TextWorld):
    state = world.begin()
    rows = TreePaths(samples=3, branch=3, mark="", depth=0, nodes=80, outcome="win_rate").write(world, state)
    assert rows.responses.shape == (len(rows), 3) and len(rows) > 0
    assert (np.diff(rows.rewards, axis=1) <= 0).all()
    for group in rows.responses:
        assert len({r.ids for r in group}) == 3
        assert all(r.lead == () for r in group)
        batch = world.policy.batch([rows.prompts[0].ids], [list(rows.responses[0])])
    assert [r.logp for r in rows.responses[0]] == pytest.approx(
        world.policy.logprobs(batch)[0][0].tolist(), abs=1e-4
    )
    assert torch.is_grad_enabled()
