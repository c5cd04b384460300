"""SRPO's robustness: who depends on the data, what a revision is, and the rule on evidence made to break it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.coverage import srpo, srpo_games
from equipoise.games.srpo import Roles, solution

pytestmark = pytest.mark.usefixtures("no_shape_types")  # thousands of small steps


@pytest.mark.parametrize(
    ("kind", "method", "free"),
    [
        ("general", "DPO", False),
        ("general", "IPO", False),
        ("general", "SRPO", True),
        ("Bradley-Terry", "DPO", True),
        ("Bradley-Terry", "IPO", False),
    ],
)
def test_who_depends_on_the_writer(kind, method, free):
    moved = srpo.dependence(kind, method, 2)
    assert (moved.max() < 1e-6) if free else (moved.mean() > 1e-3)


def test_the_fit_is_the_saddle_point():
    game = srpo_games.random_games("general", 2)
    rows = srpo_games.population(game, srpo_games.writers(game)["shifted"])
    for method in (srpo_games.SRPO, srpo_games.AFRESH):
        exact = solution(game, Roles.of(game, srpo_games.kernel(method, game.reference)), 0.3)
        laws = srpo_games.fitted(method, 0.3, game, rows)
        assert len(laws) == srpo_games.REVISIONS + 1
        assert torch.allclose(laws[0], exact.generator.exp())
        assert torch.allclose(laws[2], torch.einsum("xz,xza,xab->xb", laws[0], *[exact.improver.exp()] * 2))


def test_kernels_are_laws_and_one_keeps_the_answer():
    reference = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    assert torch.allclose(srpo_games.kernel(srpo_games.AFRESH, reference)[0], reference.expand(3, 3))
    keeps = srpo_games.kernel(srpo_games.SRPO, reference)[0]
    assert torch.allclose(keeps[0], torch.tensor([0.6, 0.15, 0.25], dtype=torch.float64))


def test_the_shifted_writer_prefers_losers():
    game = srpo_games.random_games("Bradley-Terry", 5)
    usual, shifted = srpo_games.writers(game).values()
    assert bool((game.value(shifted, game.initial()) < game.value(usual, game.initial())).all())


def test_prompts_hold_antisymmetric_preferences_and_features_that_can_express_them():
    prompts = srpo_games.make_prompts(2, 5, 2.0, stream=3)
    assert torch.allclose(prompts.preference + prompts.preference.mT, torch.ones(()).double())
    assert float(
        srpo_games.make_prompts(2, 400, 2.0, stream=3).context.mean(dim=1).norm(dim=1)[0]
    ) == pytest.approx(2.0, abs=0.15)
    features, d = prompts.both(), srpo_games.SHAPE
    own = d + d * d
    assert features.shape == (2, 5, 4 + 16, 2 * own + d * d)
    # in the context of answer z = 1, response y = 2: the improver's own features, then phi(y) phi(z)^T
    cell = features[0, 0, 4 + 1 * 4 + 2]
    assert float(cell[:own].abs().max()) == 0
    assert torch.allclose(cell[own : 2 * own], prompts.generator()[0, 0, 2])
    assert torch.allclose(cell[2 * own :], torch.outer(prompts.phi[0, 0, 2], prompts.phi[0, 0, 1]).flatten())


def test_win_rates_of_known_laws():
    game = srpo_games.random_games("general", 3)
    assert srpo_games.win_rates(game, [game.reference])[:, 0] == pytest.approx([0.5] * 3)
    prompts = srpo_games.make_prompts(2, 5, 0.0, stream=1)
    uniform = torch.full((10, 4), 0.25, dtype=torch.float64)
    assert prompts.win_rates([uniform])[:, 0] == pytest.approx([0.5] * 2)


def judged(srpo_moves=1e-9, ipo_moves=0.1, first=0.6, ours=0.8, theirs=0.7):
    rng = np.random.default_rng(0)
    moved = {
        (kind, method): np.full(9, srpo_moves if srpo_games.has_improver(method) else ipo_moves)
        for kind in srpo.KINDS
        for method in srpo_games.METHODS
    }
    wins = {}
    for setting in (*srpo.KINDS, "prompts"):
        for method in srpo_games.METHODS:
            for where in ("usual", "shifted"):
                steps = np.linspace(first, ours, 6) if srpo_games.has_improver(method) else np.array([theirs])
                wins[setting, method, srpo.SAME_BETA, where] = steps + rng.normal(0, 0.01, (9, 1))
    return srpo.judge(moved, wins).verdict


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"srpo_moves": 0.01}, "fails"),
        ({"ipo_moves": 1e-4}, "fails"),
        ({"first": 0.9}, "mixed"),  # revisions make it worse
        ({"theirs": 0.85}, "mixed"),
    ],
)
def test_the_rule(change, expected):
    assert judged(**change) == expected


def test_the_beta_is_chosen_without_the_shift():
    wins = {("general", "IPO", b, w): np.full((4, 1), v) for b, w, v in (
        (0.1, "usual", 0.6), (0.1, "shifted", 0.9), (0.3, "usual", 0.7), (0.3, "shifted", 0.5))}  # fmt: skip
    assert srpo.best(wins, "general", "IPO") == 0.3
