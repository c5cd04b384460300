"""The game itself: what it accepts, what it refuses, and its symmetries."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.games import PreferenceGame, TabularPolicy, load_game, mixture, zoo

RPS = [[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]]


def policies(size: int, seed: int, prompts: int = 1) -> TabularPolicy:
    return TabularPolicy(torch.as_tensor(np.random.default_rng(seed).normal(size=(prompts, size)) * 2))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            [[0.5, 0.6], [0.5, 0.5]],
            r"preference\[0\]\[0\]\[1\] \(yes against no\) and its opposite sum to 1.1",
        ),
        ([[0.5, 1.2], [-0.2, 0.5]], r"preference\[0\]\[0\]\[1\] .*1.2; a probability"),
        ([[0.4, 0.5], [0.5, 0.5]], r"\(yes against yes\) is 0.4; the diagonal must be 1/2"),
        ([[0.5, float("nan")], [0.5, 0.5]], r"preference\[0, 1\] is not a finite number"),
        ([[0.5, 0.5]], r"must be \[prompts, actions, actions\]"),
        ([[0.5, 0.5], [0.5]], "not a rectangular table"),
    ],
)
def test_a_broken_preference_is_refused_by_entry(table, message):
    with pytest.raises(ValueError, match=message):
        PreferenceGame(table, names=("yes", "no"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [([0.5, 0.5, 0.0], "full support"), ([0.5, 0.4, 0.2], "sum to 1"), ([0.5, 0.5], "shape")],
)
def test_a_broken_reference_is_refused(reference, message):
    with pytest.raises(ValueError, match=message):
        PreferenceGame(RPS, reference)


def test_defaults_are_uniform_and_float64():
    game = PreferenceGame(np.asarray([RPS, RPS], dtype=np.float32))
    assert (game.prompts, game.actions) == (2, 3)
    assert game.preference.dtype == game.reference.dtype == torch.float64
    assert torch.equal(game.reference, torch.full((2, 3), 1 / 3, dtype=torch.float64))
    assert game.prompt_weight.tolist() == [0.5, 0.5]
    assert game.names == (("0", "1", "2"),) * 2


def test_a_policy_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"policy has shape \(1, 2\), the game \(1, 3\)"):
        zoo.rps().win(TabularPolicy.from_probs([0.5, 0.5]))


@settings(deadline=None, max_examples=40)
@given(size=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_value_is_antisymmetric_about_one_half(size, seed):
    game = zoo.random(size, seed)
    a, b = policies(size, seed + 1), policies(size, seed + 2)
    assert float(game.value(a, b) + game.value(b, a)) == pytest.approx(1, abs=1e-12)
    assert float(game.value(a, a)) == pytest.approx(0.5, abs=1e-12)


def test_mean_weighs_prompts():
    game = PreferenceGame([RPS, RPS], prompt_weight=[0.25, 0.75])
    assert game.mean(torch.tensor([1.0, 2.0], dtype=torch.float64)) == 1.75


def test_policy_tables():
    policy = TabularPolicy.from_probs([[0.2, 0.8, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    assert torch.allclose(policy.probs().sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert policy.log_probs()[0, 2] == -float("inf")
    assert policy.entropy()[1].item() == pytest.approx(np.log(3))
    assert policy.geometric(policy, 0.3).probs()[0, 1].item() == pytest.approx(0.8)
    both = mixture([TabularPolicy.from_probs([1, 0]), TabularPolicy.from_probs([0, 1])], [0.25, 0.75])
    assert both.probs()[0].tolist() == pytest.approx([0.25, 0.75])
    drawn = policy.sample(torch.tensor([0, 0, 1]), 2000, torch.Generator().manual_seed(1))
    assert drawn.shape == (3, 2000) and int(drawn[:2].max()) == 1
    assert (drawn[:2] == 1).double().mean().item() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    "bad", [[[float("nan"), 0.0]], [[-float("inf"), -float("inf")]], [[float("inf"), 0.0]]]
)
def test_unusable_logits_are_refused(bad):
    with pytest.raises(ValueError, match="prompt 0 are NaN"):
        TabularPolicy(torch.tensor(bad, dtype=torch.float64))


def test_probabilities_must_be_probabilities():
    with pytest.raises(ValueError, match="not probabilities"):
        TabularPolicy.from_probs([0.5, 0.6])
    with pytest.raises(ValueError, match="not probabilities"):
        TabularPolicy.from_probs([1.5, -0.5])


def test_games_survive_a_file(tmp_path):
    path = tmp_path / "game.json"
    path.write_text(json.dumps({"preference": RPS, "reference": [0.7, 0.2, 0.1], "names": ["r", "s", "p"]}))
    game = load_game(path)
    assert torch.equal(game.preference, zoo.rps().preference) and game.names == (("r", "s", "p"),)
    np.savez(tmp_path / "game.npz", payoff=2 * np.asarray([RPS, RPS]) - 1, names=np.array(["r", "s", "p"]))
    other = load_game(tmp_path / "game.npz")
    assert other.prompts == 2 and torch.equal(other.preference[1], game.preference[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"preference": [[0.5, 0.6], [0.5, 0.5]]}', r"game.json: preference\[0\]\[0\]\[1\]"),
        ('{"preference": [[0.5]], "refrence": [1]}', "did you mean 'reference'"),
        ('{"payoff": [[0, 3], [-3, 0]]}', r"game.json: \|payoff\| reaches 3"),
        ('{"names": ["a"]}', "exactly one of 'preference'"),
        ('{"preference": ', "game.json: Expecting value"),
        ("[1, 2]", "expected an object"),
    ],
)
def test_a_bad_file_is_named_with_the_reason(tmp_path, content, message):
    path = tmp_path / "game.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_game(path)


def test_other_bad_files(tmp_path):
    np.savez(tmp_path / "pickled.npz", preference=np.array([[object()]], dtype=object))
    with pytest.raises(ValueError, match=r"pickled\.npz: .*allow_pickle=False"):
        load_game(tmp_path / "pickled.npz")
    with pytest.raises(ValueError, match=r"unknown file type '\.csv'"):
        load_game(tmp_path / "game.csv")
    with pytest.raises(ValueError, match="No such file"):
        load_game(tmp_path / "missing.json")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"text\.npz"):
        load_game(tmp_path / "text.npz")
