"""From token rewards to advantages: by hand, and against the definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.core.advantages import CrossFit, at_last, gae, implicit_reward, returns, whiten

MASK = torch.tensor([[[True, True, True], [True, False, False]]])


def tokens(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.float64)


def test_a_reward_is_paid_at_the_last_token():
    paid = at_last(torch.tensor([[0.7, 0.2]], dtype=torch.float64), MASK)
    assert paid.tolist() == [[[0, 0, 0.7], [0.2, 0, 0]]]


def test_gae_by_hand():
    """r = (0, 0, 1), V = (.5, .4, .8): delta = (-.1, .4, .2); lam = .5: A = (-.1 + .5 .5, .4 + .5 .2, .2)."""
    reward, value = tokens([0, 0, 1], [0.3, 0, 0]), tokens([0.5, 0.4, 0.8], [0.1, 0, 0])
    found = gae(reward, value, lam=0.5)
    assert found[0, 0].tolist() == pytest.approx([0.15, 0.5, 0.2], abs=1e-15)
    assert found[0, 1].tolist() == pytest.approx([0.2, 0, 0], abs=1e-15)
    assert gae(reward, value, lam=0.0)[0, 0].tolist() == pytest.approx([-0.1, 0.4, 0.2], abs=1e-15)
    assert gae(reward, value, lam=1.0)[0, 0].tolist() == pytest.approx([0.5, 0.6, 0.2], abs=1e-15)
    # gamma = .5: delta = (.2 - .5, .4 - .4, .2), and A_0 = -.3 + .25 * 0 + .0625 * .2
    assert gae(reward, value, gamma=0.5, lam=0.5)[0, 0].tolist() == pytest.approx(
        [-0.2875, 0.05, 0.2], abs=1e-15
    )


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.3), (1.0, 0.0), (1.0, 1.0)])
def test_gae_is_its_double_sum(gamma, lam):
    draw = np.random.default_rng(0)
    reward, value = draw.normal(size=(2, 3, 5)), draw.normal(size=(2, 3, 5))
    ahead = np.concatenate([value[..., 1:], np.zeros((2, 3, 1))], axis=2)
    delta = reward + gamma * ahead - value
    slow = [sum((gamma * lam) ** (j - k) * delta[..., j] for j in range(k, 5)) for k in range(5)]
    found = gae(torch.from_numpy(reward), torch.from_numpy(value), gamma=gamma, lam=lam)
    assert np.allclose(found.numpy(), np.stack(slow, axis=2), rtol=0, atol=1e-14)


def test_returns_are_what_follows():
    assert returns(tokens([1, 2, 4]))[0, 0].tolist() == [7, 6, 4]
    assert returns(tokens([1, 2, 4]), gamma=0.5)[0, 0].tolist() == [3, 4, 4]


def test_whitened_tokens_have_mean_zero_and_deviation_one_under_their_weights():
    values = tokens([3.0, 1.0, -2.0], [5.0, 99.0, 99.0])
    weight = MASK * torch.tensor([0.5], dtype=torch.float64)
    found = whiten(values, weight)
    kept = found[MASK]
    assert [float(kept.mean()), float(kept.square().mean())] == pytest.approx([0, 1], abs=1e-15)
    assert found[~MASK].tolist() == [0, 0]
    assert kept[0] - kept[1] == pytest.approx(2 / np.std([3, 1, -2, 5]))
    # a response that counts twice is the same response twice
    twice = torch.cat([values, values[:, :1]], dim=1)
    heavy = weight * torch.tensor([2.0, 1.0]).double()[None, :, None]
    again = whiten(twice, torch.cat([weight, weight[:, :1]], dim=1))
    assert torch.allclose(whiten(values, heavy), again[:, :2], rtol=0, atol=1e-15)
    assert not whiten(torch.full_like(values, 0.25), weight).any()


def test_scaled_first_then_clipped():
    """beta .05, c .05: a log-ratio of .4 gives .02, one of 3 is cut to .05. Clipped first it would be .0025."""
    teacher, reference = torch.tensor([-1.0, -0.5, -6.0]), torch.tensor([-1.4, -3.5, -1.0])
    found = implicit_reward(teacher, reference, beta=0.05, clip=0.05)
    assert found.tolist() == pytest.approx([0.02, 0.05, -0.05])
    free = implicit_reward(teacher, reference, beta=0.05, clip=None)
    assert free.tolist() == pytest.approx([0.02, 0.15, -0.25])


# the critic ---------------------------------------------------------------------------------------------


def regression(count=40, width=3, noise=0.0):
    draw = np.random.default_rng(1)
    x, half = draw.normal(size=(count, width)), np.arange(count) // 2 % 2
    y = x @ [1.0, -2.0, 0.5] + 0.7 + noise * draw.normal(size=count)
    return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(half)


def fitted(x, y, half, strength=1e-2, cut=7):
    fit = CrossFit(x.shape[1], strength)
    for part in (slice(0, cut), slice(cut, None)):  # sums do not care how they are cut
        fit.add(x[part], y[part], half[part])
    return fit.values(x, half).numpy()


def test_values_are_ridge_regression_on_the_other_half():
    x, y, half = (t.numpy() for t in regression(noise=0.5))
    found = fitted(*regression(noise=0.5))
    for k in (0, 1):
        seen, mine = half == 1 - k, half == k
        level, mean = y[seen].mean(), x[seen].mean(axis=0)
        centred = x[seen] - mean
        scatter = centred.T @ centred
        weights = np.linalg.solve(
            scatter + 1e-2 * np.trace(scatter) / 3 * np.eye(3), centred.T @ (y[seen] - level)
        )
        assert np.allclose(found[mine], level + (x[mine] - mean) @ weights, rtol=0, atol=1e-12)


def test_a_linear_value_is_found_and_the_scale_of_features_does_not_matter():
    x, y, half = regression()
    assert np.allclose(fitted(x, y, half, strength=1e-12), y.numpy(), rtol=0, atol=1e-9)
    noisy = regression(noise=0.5)
    assert np.allclose(fitted(*noisy), fitted(1e3 * noisy[0], *noisy[1:]), rtol=0, atol=1e-10)


def test_a_value_has_not_seen_what_followed_it():
    x, y, half = regression(noise=0.5)
    moved = y + 5 * (half == 0)
    before, after = fitted(x, y, half), fitted(x, moved, half)
    assert np.array_equal(before[half == 0], after[half == 0])
    assert np.allclose(before[half == 1] + 5, after[half == 1])


def test_nothing_to_learn_from_is_no_value_and_no_features_the_mean():
    x, y, half = regression()
    alone = fitted(x, y, torch.zeros_like(half))
    assert not alone.any()
    flat = fitted(torch.ones_like(x), y, half)
    assert np.allclose(flat[half == 0], y[half == 1].mean())
    with pytest.raises(ValueError, match="strength"):
        CrossFit(3, strength=0.0)
