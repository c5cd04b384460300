"""A reward learned on features, and its bottleneck."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from equipoise.oracles.learned.bottleneck import Bottleneck, gaussian_kl, kl_warmup, shared_information
from equipoise.oracles.learned.feature_reward import Fitting, LearnedReward, Views, fit, pair_loss

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _one_thread():
    """Matrices this small keep two threads waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def labelled(count: int = 200, inputs: int = 5):
    """Pairs whose true reward is linear in their features, with its probabilities as labels."""
    pairs, direction = normal(0, count, 2, inputs), normal(1, inputs)
    margin = (pairs[:, 0] - pairs[:, 1]) @ direction
    return pairs, torch.sigmoid(margin), torch.ones(count, dtype=DOUBLE)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


QUICK = Fitting(steps=20, batch=32, width=16, code=4)


def test_gaussian_kl_is_that_of_torch():
    m, s, n, t = (normal(seed, 6, 3) for seed in range(4))
    expected = kl_divergence(Normal(m, s.exp()), Normal(n, t.exp())).sum(dim=1)
    torch.testing.assert_close(gaussian_kl(m, s, n, t), expected)
    assert float(gaussian_kl(m, s, m, s).abs().max()) == 0


def test_the_kl_of_equal_views_is_zero_and_only_the_information_is_left():
    torch.manual_seed(0)
    bottleneck, view = Bottleneck(8, 3).double(), normal(2, 10, 8)
    mean, log_std = (t.detach() for t in bottleneck.codes(view))
    assert float(gaussian_kl(mean, log_std, mean, log_std).abs().max()) == 0

    noise = torch.Generator().manual_seed(7)
    z1, z2 = (mean + log_std.exp() * torch.randn(mean.shape, generator=noise, dtype=DOUBLE) for _ in range(2))

    def critic(a, b):
        return bottleneck.critic(torch.cat([a, b], dim=1))[:, 0]

    expected = -shared_information(critic(z1, z2), critic(z1, z2.roll(1, dims=0)))
    found = bottleneck(view, view, torch.Generator().manual_seed(7))
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)


def test_shared_information_of_a_blind_and_of_a_sure_critic():
    zero = torch.zeros(4, dtype=DOUBLE)
    assert float(shared_information(zero, zero)) == pytest.approx(-2 * math.log(2), abs=1e-12)
    assert float(shared_information(zero + 50, zero - 50)) == pytest.approx(0, abs=1e-12)


def trained(first, second, *, slowly: bool) -> float:
    """The loss reached on views of 6 numbers each; with the KL terms warmed up, or full from the start."""
    torch.manual_seed(0)
    bottleneck, noise = Bottleneck(6, 2).double(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(bottleneck.parameters(), lr=1e-2)
    for step in range(300):
        divergence = kl_warmup(step / 300) if slowly else 1.0
        loss = bottleneck(first, second, noise, divergence=divergence)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.slow
def test_the_bottleneck_finds_what_views_share():
    """Two views of one cause; the same views in disorder share nothing, and no code does better than 2 log 2."""
    cause = normal(3, 64, 1) * torch.ones(1, 6, dtype=DOUBLE)
    views = cause + 0.1 * normal(4, 64, 6), cause + 0.1 * normal(5, 64, 6)
    assert trained(*views, slowly=True) < 1.0
    assert trained(views[0], views[1].roll(17, dims=0), slowly=True) == pytest.approx(
        2 * math.log(2), abs=0.02
    )
    assert trained(*views, slowly=False) == pytest.approx(2 * math.log(2), abs=0.02)


def test_pair_loss_by_hand():
    reward = LearnedReward(2, 3)
    pairs, prob, weight = normal(6, 2, 2, 2), torch.tensor([1.0, 0.25]), torch.tensor([1.0, 3.0])
    a, b = (reward.rewards(pairs)[:, 0] - reward.rewards(pairs)[:, 1]).tolist()
    by_hand = (
        math.log1p(math.exp(-a)) + 3 * (0.25 * math.log1p(math.exp(-b)) + 0.75 * math.log1p(math.exp(b)))
    ) / 4
    assert float(pair_loss(reward, pairs, prob, weight).detach()) == pytest.approx(by_hand, abs=1e-12)


def test_the_reward_learns_who_wins_and_is_the_same_each_time():
    pairs, prob, weight = labelled()
    tensors = fit(pairs, prob, weight, seed=3, fitting=Fitting(steps=150, batch=64, rate=1e-2, width=32))
    rewards = LearnedReward.of(tensors).rewards(pairs)
    assert float(((rewards[:, 0] > rewards[:, 1]) == (prob > 0.5)).double().mean()) > 0.9
    state = torch.get_rng_state()
    assert same(
        fit(pairs, prob, weight, seed=3, fitting=QUICK), fit(pairs, prob, weight, seed=3, fitting=QUICK)
    )
    assert not same(
        fit(pairs, prob, weight, seed=3, fitting=QUICK), fit(pairs, prob, weight, seed=4, fitting=QUICK)
    )
    assert torch.equal(state, torch.get_rng_state())


def test_without_a_weight_or_views_it_is_ordinary_reward_training():
    data = labelled(40)
    views = Views(normal(9, 30, 2, 5), torch.ones(30, dtype=DOUBLE))
    plain = fit(*data, seed=0, fitting=QUICK)
    assert same(plain, fit(*data, seed=0, views=views, bottleneck=0.0, fitting=QUICK))
    assert same(plain, fit(*data, seed=0, bottleneck=0.5, fitting=QUICK))
    assert not same(plain, fit(*data, seed=0, views=views, bottleneck=0.5, fitting=QUICK))


def test_a_view_of_weight_zero_is_never_drawn():
    data = labelled(40)
    views, weight = normal(9, 30, 2, 5), (torch.arange(30) % 2).to(DOUBLE)
    other = torch.where(weight[:, None, None] > 0, views, 100.0)
    fits = [fit(*data, seed=0, views=Views(v, weight), bottleneck=0.5, fitting=QUICK) for v in (views, other)]
    assert same(*fits)


def test_a_feature_that_never_varied_does_not_explode():
    pairs, prob, weight = labelled(40)
    pairs[..., 0] = 1.0
    reward = LearnedReward.of(fit(pairs, prob, weight, seed=0, fitting=QUICK))
    new = pairs.clone()
    new[..., 0] = 2.0
    assert float((reward.rewards(new) - reward.rewards(pairs)).abs().max()) < 2
