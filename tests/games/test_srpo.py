"""SRPO on finite games: the saddle point in closed form, and the core objective's minimiser, which must agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from equipoise.core.objectives import Ipo
from equipoise.core.objectives.srpo import Srpo
from equipoise.games import (
    Comparisons,
    PreferenceGame,
    enumerate_data,
    enumerate_pairs,
    minimise,
    regularised_nash,
    srpo,
    zoo,
)
from equipoise.games.expectation import loss
from equipoise.games.srpo import Roles

DOUBLE = torch.float64
# the printed example
BETA = 0.6
BRPS = zoo.brps((0.5, 0.2, 0.3))
KERNEL = [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]]
GENERATOR, IMPROVER_OF_A = (0.539681, 0.187998, 0.272321), (0.535821, 0.165060, 0.299119)


def dirichlet(*shape: int, seed: int) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), size=shape[:-1]))


def random_game(seed: int) -> tuple[PreferenceGame, Roles]:
    game = zoo.random(5, seed)
    return game, Roles.of(game, dirichlet(5, 5, seed=seed))


def some_pairs(game: PreferenceGame, seed: int) -> Comparisons:
    """Pairs with random weights, correlated and far from the reference, labelled by the game."""
    weight = np.random.default_rng(seed).random((game.prompts, game.actions, game.actions))
    rows = enumerate_data(torch.as_tensor(weight))
    won, lost = rows.responses.unbind(1)
    return rows._replace(prob=game.preference[rows.prompts, won, lost])


def identities(
    game: PreferenceGame, roles: Roles, reference: Roles, beta: float, sign: int = 1
) -> tuple[float, float]:
    """Largest violations of (I) and (II), for every y1 (row) and y2 (column); `sign` is that of B in (II).

    (I)  P(y2 > y1) - 1/2   = beta [ A(y2|y1) - A(y1|y1) ]
    (II) 2 P(y2 > y1) - 1   = beta [ A(y2|y1) - A(y1|y2) + B(y2) - B(y1) ]
    """
    a, b = roles.improver - reference.improver, roles.generator - reference.generator
    beats = game.preference.mT
    first = beats - 0.5 - beta * (a - a.diagonal(dim1=1, dim2=2).unsqueeze(2))
    second = 2 * beats - 1 - beta * (a - a.mT + sign * (b.unsqueeze(1) - b.unsqueeze(2)))
    return float(first.abs().max()), float(second.abs().max())


@pytest.mark.parametrize("beta", [0.1, 0.6, 3.0])
@pytest.mark.parametrize("seed", range(6))
def test_both_identities_hold_at_the_solution_and_fail_with_the_other_sign(seed, beta):
    game, reference = random_game(seed)
    found = srpo.solution(game, reference, beta)
    assert max(identities(game, found, reference, beta)) < 5e-15
    right, wrong = identities(game, found, reference, beta, sign=-1)
    assert right < 5e-15
    assert wrong > 0.5


def test_the_other_sign_in_the_printed_example():
    """The violation is 2 beta max |B(y2) - B(y1)|, here with B(a) and B(c) read off the printed policy."""
    reference = Roles.of(BRPS, KERNEL)
    found = srpo.solution(BRPS, reference, BETA)
    expected = 1.2 * (np.log(0.539681 / 0.5) - np.log(0.272321 / 0.3))
    assert expected == pytest.approx(0.2078, abs=5e-5)
    assert identities(BRPS, found, reference, BETA, sign=-1)[1] == pytest.approx(expected, abs=1e-5)


def test_the_printed_example_in_closed_form():
    found = srpo.solution(BRPS, Roles.of(BRPS, KERNEL), BETA)
    assert found.generator.exp()[0].tolist() == pytest.approx(GENERATOR, abs=6e-7)
    assert found.improver.exp()[0, 0].tolist() == pytest.approx(IMPROVER_OF_A, abs=6e-7)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_printed_example_from_the_core_objective_whatever_the_pairs(seed):
    reference = Roles.of(BRPS, KERNEL)
    found = srpo.fit(Srpo(beta=BETA, alpha=0.5), some_pairs(BRPS, seed), reference)
    assert found.generator.exp()[0].tolist() == pytest.approx(GENERATOR, abs=6e-7)
    assert found.improver.exp()[0, 0].tolist() == pytest.approx(IMPROVER_OF_A, abs=6e-7)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_the_core_objective_finds_the_solution_on_many_prompts(alpha):
    game = zoo.prompts(4, 3, 0)
    reference = Roles.of(game, dirichlet(4, 3, 3, seed=2))
    expected = srpo.solution(game, reference, 0.3)
    found = srpo.fit(Srpo(beta=0.3, alpha=alpha), some_pairs(game, 5), reference)
    assert (found.table() - expected.table()).abs().max() < 1e-11


def test_ipo_depends_on_the_pairs_where_srpo_does_not():
    anchors = {"reference": BRPS.reference.log()}
    fitted = [
        minimise(Ipo(tau=BETA), *some_pairs(BRPS, seed), start=BRPS.reference.log(), anchors=anchors).exp()
        for seed in (0, 1)
    ]
    assert (fitted[0] - fitted[1]).abs().max() > 0.02


def test_the_gradient_vanishes_at_the_solution_and_not_with_the_generator_turned_round():
    game, reference = random_game(3)
    best = srpo.solution(game, reference, BETA).table().requires_grad_()
    rows = srpo.both_roles(some_pairs(game, 1), game.actions)
    anchors = {"reference": reference.table()}
    (slope,) = torch.autograd.grad(loss(Srpo(beta=BETA), best, anchors, rows), best)
    assert slope.abs().max() < 1e-15
    turned = rows._replace(responses=rows.responses[:, [1, 0, 2, 3, 4, 5]])  # B with the opposite sign
    (slope,) = torch.autograd.grad(loss(Srpo(beta=BETA), best, anchors, turned), best)
    assert slope.abs().max() > 1e-3


def test_the_solution_is_a_saddle_point():
    game, reference = random_game(0)
    beta = 0.2
    best = srpo.solution(game, reference, beta)
    saddle = srpo.saddle_value(game, reference, beta)
    assert srpo.value(game, best, reference, beta).item() == pytest.approx(saddle.item(), abs=1e-14)
    draw = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.3, 3.0):
        for _ in range(20):
            noise = size * torch.randn(1, 5, 6, generator=draw, dtype=DOUBLE)
            other = Roles(
                generator=(best.generator + noise[..., 5]).log_softmax(1),
                improver=(best.improver + noise[..., :5]).log_softmax(2),
            )
            other_generator = Roles(generator=other.generator, improver=best.improver)
            other_improver = Roles(generator=best.generator, improver=other.improver)
            assert srpo.value(game, other_generator, reference, beta).item() > saddle.item()
            assert srpo.value(game, other_improver, reference, beta).item() < saddle.item()


def test_an_improver_that_cannot_move_leaves_nothing_to_be_robust_against():
    """beta -> infinity: both players stay at the reference; the value is that of the reference, P(ref > ref) = 1/2."""
    game = zoo.random(5, 1)
    reference = Roles.of(game)
    found = srpo.solution(game, reference, 1e9)
    assert (found.table() - reference.table()).abs().max() < 1e-8
    assert srpo.saddle_value(game, reference, 1e6).item() == pytest.approx(0.5, abs=1e-6)


def test_without_preferences_nothing_moves():
    game = PreferenceGame(np.full((4, 4), 0.5), dirichlet(4, seed=0))
    reference = Roles.of(game, dirichlet(4, 4, seed=1))
    assert (srpo.solution(game, reference, 0.1).table() - reference.table()).abs().max() < 1e-14
    # from somewhere else the core objective comes back
    fitted = minimise(
        Srpo(beta=0.1),
        *srpo.both_roles(some_pairs(game, 0), 4),
        start=torch.zeros(1, 20, dtype=DOUBLE),
        anchors={"reference": reference.table()},
        contexts=5,
    )
    assert (fitted - reference.table()).abs().max() < 1e-12


def test_rock_paper_scissors_from_a_uniform_reference_is_uniform():
    game = zoo.rps((1 / 3, 1 / 3, 1 / 3))
    found = srpo.fit(Srpo(beta=0.1), some_pairs(game, 0), Roles.of(game))
    assert (found.generator.exp() - 1 / 3).abs().max() < 1e-12
    assert (regularised_nash(game, 0.1).probs() - 1 / 3).abs().max() < 1e-12
    # while the improver answers every throw with the one that beats it, odds e^(1/0.1) against losing
    assert found.improver[0].argmax(dim=1).tolist() == [2, 0, 1]
    assert (found.improver[0, 0, 2] - found.improver[0, 0, 1]).item() == pytest.approx(10.0, abs=1e-9)


def test_a_robust_policy_is_not_the_nash_policy():
    """The best challenger beats a, b, c with 0.7, 0.9, 0.8: as beta -> 0 the generator writes a; Nash mixes."""
    robust = srpo.solution(BRPS, Roles.of(BRPS), 0.01).generator.exp()[0]
    assert robust[0] > 0.999
    assert regularised_nash(BRPS, 0.01).probs()[0].tolist() == pytest.approx([3 / 9, 2 / 9, 4 / 9], abs=0.03)


def test_hard_labels_give_the_same_minimiser_as_their_probabilities():
    """The label trick: (w, l) with weight P(w > l) and (l, w) with the rest, against soft labels."""
    reference = Roles.of(BRPS, KERNEL)
    soft = enumerate_pairs(BRPS, BRPS.reference)
    hard = soft._replace(weight=2 * soft.weight * soft.prob, prob=None)
    expected = srpo.solution(BRPS, reference, BETA)
    assert (srpo.fit(Srpo(beta=BETA), hard, reference).table() - expected.table()).abs().max() < 1e-12


def test_tables_and_what_is_refused():
    reference = Roles.of(BRPS, KERNEL)
    again = Roles.of_table(reference.table())
    assert again.generator.equal(reference.generator) and again.improver.equal(reference.improver)
    assert reference.improver.exp()[0, 1].tolist() == pytest.approx(KERNEL[1])
    with pytest.raises(ValueError, match="expected"):
        Roles.of(BRPS, [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match="full support"):
        Roles.of(BRPS, np.eye(3))
    with pytest.raises(ValueError, match="rows sum to"):
        Roles.of(BRPS, np.full((3, 3), 0.5))
    with pytest.raises(ValueError, match="contexts must divide the number of columns"):
        minimise(Srpo(), *some_pairs(BRPS, 0), start=reference.table(), anchors={}, contexts=5)
