"""Reward models trained within a run: once, as `oracle train` does, with the policy's own samples (RLP)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.methods.rlp import RLP_UML
from equipoise.oracles.learned.agreement import clusters, same_meaning
from equipoise.oracles.models.reward import load_oracle
from equipoise.play.capabilities import RewardData
from equipoise.play.pairings.learned_reward import ByLearnedReward
from equipoise.play.state import START
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.text.run_rewards import labelled_pairs, view_tokens


def trained(world, state, name="round-001", **data):
    pairs = replace(world.recorded(state), weight=np.ones(8))
    return world.trained_reward(state, name, lambda seed: RewardData(pairs, batch=4, **data))


def test_a_reward_model_is_trained_once_and_judges_as_the_saved_folder(make_world):
    world = make_world()
    state = world.begin(RLP_UML.update.memory)
    held = [p.detach().clone() for _, p in world.policy.parameters()]
    folder = trained(world, state, epochs=15)
    rows = world.recorded(state)
    scores = world.reward_scores(rows, folder)
    plain = load_oracle(folder)
    for k in (0, 1):
        want = plain.score([p.context for p in rows.prompts], [r.text for r in rows.responses[:, k]])
        assert np.allclose(scores[:, k], want.numpy(), atol=1e-6)
    sure = rows.prob == 1
    assert (scores[sure, 0] > scores[sure, 1]).all()  # the labels it was trained on
    assert all(torch.equal(a, p) for a, (_, p) in zip(held, world.policy.parameters(), strict=True))
    again = make_world()
    again.begin(RLP_UML.update.memory)
    assert again.trained_reward(state, "round-001", lambda seed: pytest.fail("trained again")) == folder


def test_the_bottleneck_changes_the_reward_and_weight_zero_does_not(make_world, tmp_path):
    world = make_world()
    state = world.begin(RLP_UML.update.memory)
    views = world.sample(state, world.prompts(state), START, 4)
    rows = world.recorded(state)

    def scores(place, **data):
        made = RewardData(replace(rows, weight=np.ones(8)), batch=4, **data)
        world.run_rewards._train(tmp_path / place, made, 7)
        return world.reward_scores(rows, tmp_path / place)

    plain, none = scores("plain"), scores("none", views=views)
    some = scores("some", views=views, bottleneck=0.5)
    assert np.array_equal(plain, none)
    assert np.abs(some - plain).max() > 1e-4 and np.isfinite(some).all()


def test_views_are_disjoint_pairs_of_one_prompt(make_world):
    world = make_world()
    state = world.begin()
    views = world.sample(state, world.prompts(state), START, 5)
    texts = type("Texts", (), {"answer": staticmethod(lambda prompt, text: [prompt, text])})()
    made = view_tokens(views, texts)
    assert len(made) == 2 * len(views)  # the fifth response has no partner
    assert all(a[0] == b[0] for a, b in made)
    first = [r.text for r in views.responses[0]]
    assert [(a[1], b[1]) for a, b in made[:2]] == [(first[0], first[1]), (first[2], first[3])]
    with pytest.raises(TrainingError, match="two pairs of responses"):
        view_tokens(views.take(np.array([0])).columns([np.array([0]), np.array([1])]), texts)


def test_labels_and_weights_reach_the_reward_model(make_world):
    world = make_world()
    state = world.begin()
    texts = type("Texts", (), {"answer": staticmethod(lambda prompt, text: [1, 2])})()
    rows = world.recorded(state)
    pairs = labelled_pairs(rows, texts)
    assert [pair.prob[0] for pair in pairs] == rows.prob.tolist()
    assert [pair.weight for pair in pairs] == rows.weight.tolist()
    assert [pair.first for pair in pairs] == [group[0].text for group in rows.responses]


def test_one_meaning_by_the_cosine_of_embeddings():
    texts = ["yes", "yes indeed", "no", "blank"]
    vectors = torch.tensor([[2.0, 0.0], [1.0, 0.1], [0.0, 3.0], [0.0, 0.0]])
    assert clusters(texts, same_meaning(texts, vectors, 0.9)) == [[0, 1], [2], [3]]
    assert clusters(texts, same_meaning(texts, vectors, 1.0)) == [[0], [1], [2], [3]]
    same = same_meaning(texts, vectors, 0.5)
    assert same("blank", "blank") and not same("blank", "yes")  # zeros are similar to nothing else


def test_synthetic_pairs_by_meaning(make_world):
    """Above a cosine of 1 only equal responses agree, as by text; at -1 all do, and nothing is kept."""
    world = make_world()
    state = world.begin(RLP_UML.update.memory)
    own = world.sample(state, world.prompts(state), START, 4)
    values = np.arange(own.responses.size, dtype=float).reshape(own.responses.shape)
    by_text = ByLearnedReward(own=4, confidence=0.5)
    strict = replace(by_text, meaning="states", similarity=1.0)
    made, same = (p.made(world, state, own, values) for p in (by_text, strict))
    assert [[r.text for r in g] for g in made.responses] == [[r.text for r in g] for g in same.responses]
    assert not len(replace(strict, similarity=-0.9999).made(world, state, own, values))
    with pytest.raises(ValueError, match="similarity in"):
        ByLearnedReward(similarity=1.5)
    with pytest.raises(ValueError, match="reward must be features or model"):
        ByLearnedReward(reward="oracle")
