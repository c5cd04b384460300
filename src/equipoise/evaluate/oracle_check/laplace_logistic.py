"""Bayesian logistic regression with a Laplace prior: posterior by Hamiltonian Monte Carlo, and its MAP short-cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from equipoise.core.logistic import sigmoid
from equipoise.evaluate.oracle_check.comparisons import Floats

SCALE = 0.1  # of the prior, as in the paper
LEAPS = (6, 16)  # leapfrog steps of one draw, uniformly at random
WANTED = 0.7  # acceptance that the step size is tuned to
CONVERGED = 1.05  # largest R-hat of a posterior that is reported as one


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws [chains, draws, F] of the weights, and the largest split R-hat over the weights."""

    draws: Floats
    r_hat: float

    @property
    def mean(self) -> Floats:
        """[F] posterior means."""
        return np.asarray(self.draws.mean(axis=(0, 1)))

    def quantile(self, share: float) -> Floats:
        """[F] posterior quantiles."""
        return np.asarray(np.quantile(self.draws, share, axis=(0, 1)))


def _checked(x: Floats, target: Floats) -> None:
    if x.ndim != 2 or len(x) != len(target) or not x.shape[1]:
        raise ValueError(f"need features [N, F] and N targets, got {x.shape} and {target.shape}")


def maximum(x: Floats, target: Floats, scale: float = SCALE) -> Floats:
    """[F] the weights of largest posterior density: L1-penalised logistic regression, penalty |w|/scale.

        min_w  sum_i softplus(s_i) - p_i s_i + sum_f |w_f|/scale,    s = x w

    x [N, F], targets p [N] in [0, 1]. w is written as the difference of two parts >= 0, so that the problem is smooth
    with bounds (L-BFGS-B) and zeros are exact.
    """
    _checked(x, target)
    features = x.shape[1]

    def loss(parts: Floats) -> tuple[float, Floats]:
        score = x @ (parts[:features] - parts[features:])
        slope = x.T @ (sigmoid(score) - target)
        value = float(np.sum(np.logaddexp(0, score) - target * score) + parts.sum() / scale)
        return value, np.concatenate([slope, -slope]) + 1 / scale

    end = minimize(
        loss,
        np.zeros(2 * features),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * features),
        options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-8},
    )
    return np.asarray(end.x[:features] - end.x[features:])


def sample(
    x: Floats,
    target: Floats,
    scale: float = SCALE,
    *,
    warm_up: int = 200,
    draws: int = 800,
    chains: int = 4,
    seed: int = 0,
) -> Posterior:
    """Posterior draws of w for P(a beats b) = sigma(w . x), w_f ~ Laplace(0, scale), without intercept.

    x [N, F], targets p [N] in [0, 1]: a probability counts as p of a win and 1 - p of a loss. Hamiltonian Monte Carlo,
    all chains at once, from overdispersed starts, with the curvature at w = 0 and of the prior's variance 2 scale^2 as
    mass; the step size is tuned to WANTED acceptance in the warm-up and then held; the number of leapfrog steps is
    random. The prior's kink at 0 costs acceptance and no exactness: each draw is accepted or not by the posterior
    itself. Deterministic for a seed. Look at `r_hat`: below CONVERGED the chains agree.
    """
    _checked(x, target)
    generator = np.random.default_rng(seed)
    features = x.shape[1]
    precision = x.T @ x / 4 + np.eye(features) / (2 * scale**2)
    spread = np.linalg.inv(np.linalg.cholesky(precision)).T  # w = spread z has covariance precision^-1
    rows, wins, count = collapsed(x, target)
    posterior = (rows @ spread, wins, count, spread, scale)
    z = 2 * generator.standard_normal((chains, features))
    value, slope = _density(z, *posterior)
    step, barred, trend = 0.5, 0.0, 0.0
    kept = np.empty((chains, draws, features))
    for turn in range(warm_up + draws):
        z, value, slope, accepted = _leap(z, value, slope, step, generator, *posterior)
        if turn < warm_up:  # dual averaging (Hoffman & Gelman 2014)
            trend += WANTED - float(accepted.mean())
            log_step = np.log(5.0) - np.sqrt(turn + 1) / (0.05 * (turn + 11)) * trend
            weight = (turn + 1) ** -0.75
            barred = weight * log_step + (1 - weight) * barred
            step = float(np.exp(log_step if turn + 1 < warm_up else barred))
        else:
            kept[:, turn - warm_up] = z @ spread.T
    return Posterior(kept, split_r_hat(kept))


def collapsed(x: Floats, target: Floats) -> tuple[Floats, Floats, Floats]:
    """(x [M, F], wins [M], count [M]): equal rows as one, a row and its negative (the same comparison, swapped) too."""
    first = x[np.arange(len(x)), (x != 0).argmax(axis=1)]
    swap = np.where(first < 0, -1.0, 1.0)
    rows, member = np.unique(x * swap[:, None], axis=0, return_inverse=True)
    member = member.reshape(-1)
    wins = np.zeros(len(rows))
    np.add.at(wins, member, np.where(swap > 0, target, 1 - target))
    return rows, wins, np.bincount(member, minlength=len(rows)).astype(np.float64)


def _density(
    z: Floats, design: Floats, wins: Floats, count: Floats, spread: Floats, scale: float
) -> tuple[Floats, Floats]:
    """Log posterior [chains] at w = spread z, up to a constant, and its gradient in z [chains, F]."""
    score = z @ design.T
    w = z @ spread.T
    small = np.exp(-np.abs(score))
    value = score @ wins - (np.maximum(score, 0) + np.log1p(small)) @ count - np.abs(w).sum(axis=1) / scale
    share = np.where(score >= 0, 1.0, small) / (1 + small)
    return value, (wins - count * share) @ design - np.sign(w) @ spread / scale


def _leap(
    z: Floats, value: Floats, slope: Floats, step: float, generator: np.random.Generator, *posterior: Any
) -> tuple[Floats, Floats, Floats, Floats]:
    """One draw of every chain: (z, log density, gradient, acceptance probability)."""
    momentum = generator.standard_normal(z.shape)
    start = value - np.square(momentum).sum(axis=1) / 2
    place, push = z, slope
    momentum = momentum + step / 2 * push
    leaps = int(generator.integers(*LEAPS, endpoint=True))
    reached = value
    for number in range(leaps):
        place = place + step * momentum
        reached, push = _density(place, *posterior)
        momentum = momentum + (step if number < leaps - 1 else step / 2) * push
    end = reached - np.square(momentum).sum(axis=1) / 2
    chance = np.exp(np.minimum(0.0, np.nan_to_num(end - start, nan=-np.inf)))
    taken = generator.random(len(z)) < chance
    rows = taken[:, None]
    return np.where(rows, place, z), np.where(taken, reached, value), np.where(rows, push, slope), chance


def split_r_hat(draws: Floats) -> float:
    """Largest split R-hat over the weights of draws [chains, draws, F]; 1: the halves of all chains agree.

    sqrt( ((n - 1)/n W + B/n) / W ), with W the mean variance within half-chains of n draws, B/n the variance of their
    means. Source: Gelman et al., Bayesian Data Analysis, 3rd edition, section 11.4 (RECALLED).
    """
    half = draws.shape[1] // 2
    parts = np.concatenate([draws[:, :half], draws[:, half : 2 * half]])
    within = parts.var(axis=1, ddof=1).mean(axis=0)
    between = parts.mean(axis=1).var(axis=0, ddof=1)
    return float(np.sqrt(((half - 1) / half * within + between) / within).max())
