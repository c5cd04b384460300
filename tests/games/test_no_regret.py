"""Models trained to have no regret: the loss, the closed form, and what training finds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from equipoise.games import PreferenceGame, gap0, zoo
from equipoise.games.repeated import no_regret
from equipoise.games.repeated import regret as rg
from equipoise.games.repeated.regret import self_play

RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The arrays are tiny: a second thread only gets in the way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_regret_loss_goes_from_the_mean_to_the_worst_case():
    regret = torch.as_tensor(RNG(0).uniform(0, 3, (20, 8)))
    mean, worst = regret.square().mean().item(), regret.amax(dim=1).square().mean().item()
    found = [no_regret.regret_loss(regret, k).item() for k in (0.0, 1.0, 50.0, 1e4)]
    assert found[0] == pytest.approx(mean) and found[-1] == pytest.approx(worst)
    assert mean < found[1] < found[2] < worst and worst - found[2] < 0.02 * worst
    alone = no_regret.regret_loss(regret.view(-1, 1), 7.0).item()
    assert alone == pytest.approx(mean)


def test_the_best_step_minimises_the_square_of_the_regret():
    for domain in (no_regret.SIMPLEX, no_regret.BALL):
        losses = no_regret.clipped_normal(10, 3)(2000, torch.Generator().manual_seed(0))
        found = no_regret.best_step(losses, domain)

        def value(eta, losses=losses, domain=domain):
            plays = domain.extend(-eta * rg.known(losses.cumsum(dim=1)))
            return domain.regret(losses, plays).square().mean().item()

        assert found > 0 and value(found) < min(value(0.99 * found), value(1.01 * found))


def test_the_nearest_ftrl_ignores_constants():
    noise = torch.ones(3, 1, dtype=torch.float64) * torch.as_tensor(RNG(0).normal(size=3))
    eta, distance = no_regret.nearest_ftrl(-0.2 * torch.eye(3, dtype=torch.float64) + noise + 0.2 / 3)
    assert eta == pytest.approx(0.2) and distance < 1e-14


def test_linear_attention_learns_ftrl_on_the_ball():
    """T = 20, normal losses in two dimensions: the step tends to E[|L_T| <l_1, l_2>]/2 s^4, about 0.146."""
    rounds, domain = 20, no_regret.BALL
    draw = no_regret.clipped_normal(rounds, 2)
    eta = no_regret.best_step(draw(50_000, torch.Generator().manual_seed(1)), domain)
    assert eta == pytest.approx(0.1466, rel=0.02)
    model = no_regret.LinearAttention(2)
    no_regret.train(model, draw, domain=domain, projected=False, groups=128, size=1, steps=400)
    step = model.linear()
    assert step.diag().tolist() == pytest.approx([-eta, -eta], rel=0.1)
    rest = [step[0, 1], step[1, 0], *(model.query @ model.key), *model.value_bias]
    assert max(abs(x.item()) for x in rest) < 0.03

    losses = torch.ones(1, rounds, 2, dtype=torch.float64)
    losses[:, 1::2] *= -1
    losses[:, 0] /= 2
    total = rg.known(losses.cumsum(dim=1))
    ours = domain.regret(losses, no_regret.learner(model, domain)(losses)).item()
    online = domain.regret(losses, domain.project(-total / math.sqrt(rounds))).item()
    leader = domain.regret(losses, domain.project(-1e9 * total)).item()
    assert leader == pytest.approx(27.6, abs=0.05) and online == pytest.approx(5.0, abs=0.06)
    assert ours == pytest.approx(3.4, abs=0.15) and ours < rounds / 4 < rounds < leader


def test_a_transformer_learns_from_the_regret_alone():
    rounds = 10
    draw, model = no_regret.clipped_normal(rounds, 3), no_regret.Transformer(3)
    losses = torch.cat([rg.alternating(rounds, 3), draw(200, torch.Generator().manual_seed(9))])

    def worst() -> float:
        regret = no_regret.SIMPLEX.regret(losses, no_regret.learner(model)(losses))
        return no_regret.regret_loss(regret.unsqueeze(0), 1.0).item()

    before = worst()
    no_regret.train(model, draw, steps=60, groups=8, size=8)
    assert worst() < 0.8 * before


def test_a_trained_layer_finds_the_equilibrium_of_the_cycle():
    game = PreferenceGame(zoo.rps().preference.expand(8, 3, 3), RNG(0).dirichlet(np.ones(3), 8))
    model = no_regret.LinearAttention(3)
    no_regret.train(model, no_regret.clipped_normal(16, 3), steps=150, groups=8, size=8)
    played = self_play(game, no_regret.learner(model, start=game.reference), 100)
    before, after = gap0(game, game.initial()), gap0(game, played.mean())
    assert torch.allclose(played.plays[:, 0], game.reference, atol=1e-12)
    assert float(after.max()) < 0.2 < float(before.mean())
    assert float(after.mean()) < 0.2 * float(before.mean())
