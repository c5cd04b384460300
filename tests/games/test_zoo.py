"""Named games: their stated equilibria, and how they are asked for."""

from __future__ import annotations

import pytest
import torch

from equipoise.games import gap0, nash, zoo


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rps", [1 / 3] * 3),
        ("brps", [3 / 9, 2 / 9, 4 / 9]),
        ("transitive:4", [0, 0, 0, 1]),
        ("cyclic:7", [1 / 7] * 7),
        ("cyclic:9", [1 / 9] * 9),
        ("cyclic:3:0.7", [1 / 3] * 3),
        ("dominated:0.8", [3 / 9, 2 / 9, 4 / 9, 0]),
        ("lucky", [1, 0, 0]),
    ],
)
def test_stated_nash(name, expected):
    assert nash(zoo.parse(name)).probs()[0].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", zoo.names())
def test_every_game_is_a_game_with_an_equilibrium(name):
    game = zoo.make(name)
    assert gap0(game, nash(game)).abs().max() < 1e-12


def test_prompts_are_unlike_each_other():
    game = zoo.prompts(6, 5)
    assert game.prompts == 6 and game.prompt_weight.unique().numel() == 6
    gaps = gap0(game, game.initial())
    assert gaps.unique().numel() == 6


def test_parameters_fill_in_order():
    assert zoo.parse("random:4").actions == 4
    assert torch.equal(zoo.parse("random:4:7").preference, zoo.make("random", size=4, seed=7).preference)
    assert not torch.equal(zoo.parse("random:4:7").preference, zoo.parse("random:4:8").preference)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("randon:3", "no game 'randon'; did you mean 'random'"),
        ("random:three", "size must be int, got 'three'"),
        ("rps:3", "too many values; expected rps"),
        ("cyclic:4", "odd size"),
    ],
)
def test_a_bad_name_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        zoo.parse(text)


def test_a_bad_parameter_is_explained():
    with pytest.raises(ValueError, match="no parameter 'sead'; did you mean 'seed'"):
        zoo.make("random", sead=3)
