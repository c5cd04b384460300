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


def test_a_batch_is_its_games_side_by_side():
    batch = zoo.parse("random:4:7x3")
    assert (batch.prompts, batch.actions) == (3, 4)
    assert batch.prompt_names == ("seed 7", "seed 8", "seed 9")
    assert batch.prompt_weight.tolist() == pytest.approx([1 / 3] * 3)
    for x, seed in enumerate((7, 8, 9)):
        one = zoo.make("random", size=4, seed=seed)
        assert torch.equal(batch.preference[x], one.preference[0])
        assert torch.equal(batch.reference[x], one.reference[0])


def test_a_batch_of_games_with_prompts_keeps_their_weights():
    batch = zoo.parse("prompts:2:3:0x2")
    assert batch.prompt_names[1] == "seed 0, prompt 1"
    halves = [zoo.prompts(2, 3, seed).prompt_weight / 2 for seed in (0, 1)]
    assert torch.equal(batch.prompt_weight, torch.cat(halves))


def test_random_games_are_those_of_the_egpo_simulations():
    game = zoo.parse("random:10:0x200")
    below = game.preference[:, torch.ones(10, 10).tril(-1) > 0]
    theta = game.reference.log() - game.reference.log().mean(dim=1, keepdim=True)
    assert float(below.mean()) == pytest.approx(1 / 2, abs=0.01)
    assert float(below.var()) == pytest.approx(1 / 12, abs=0.003)  # 9,000 draws of U(0, 1)
    assert float(theta.square().sum() / (200 * 9)) == pytest.approx(1, abs=0.1)  # 1,800 degrees of freedom


def test_the_spread_of_the_reference_leaves_the_table_alone():
    plain, uniform = zoo.parse("random:5:3"), zoo.parse("random:5:3:0")
    assert torch.equal(plain.preference, uniform.preference)
    assert uniform.reference[0].tolist() == pytest.approx([1 / 5] * 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("randon:3", "no game 'randon'; did you mean 'random'"),
        ("random:three", "size must be int, got 'three'"),
        ("random:4:x", "seed must be int, or FIRSTxCOUNT for several, got 'x'"),
        ("random:4:0x0", "seed must be int, or FIRSTxCOUNT for several, got '0x0'"),
        ("random:4x4", "size must be int, got '4x4'"),
        ("rps:3", "too many values; expected rps"),
        ("cyclic:4", "odd size"),
    ],
)
def test_a_bad_name_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        zoo.parse(text)


def test_a_bad_parameter_is_explained():
    with pytest.raises(ValueError, match="no parameter 'sed'; did you mean 'seed'"):
        zoo.make("random", sed=3)
