"""Hybrid preferences: which comparisons people should label within a budget, and which an AI judge may.

mixes = simulate(phi, measure, count=200, seed=0)          train on mixtures of labels, measure each
predictor = fit_predictor(mixes, quadratic=False)          performance ~ counts of features among people's pairs
chosen = predictor.route(phi, budget, ids)                 the pairs that people label

Source: Miranda et al. 2024 (2410.19133): counts of binned features, linear or quadratic regression, top-b by gain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from equipoise.oracles.hybrid.comparison_features import Numbers

Chosen: TypeAlias = npt.NDArray[np.bool_]
CANDIDATES = 500  # random mixes that a quadratic predictor chooses among


@dataclass(frozen=True, eq=False)
class Mixes:
    """Mixtures of labels that were tried: counts [S, F] of features among people's pairs, and performance [S]."""

    counts: Numbers
    performance: Numbers

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or self.performance.shape != self.counts.shape[:1]:
            raise ValueError(
                f"counts must be [mixes, features] and performance [mixes]: {self.counts.shape}, "
                f"{self.performance.shape}"
            )
        if not (np.isfinite(self.counts).all() and np.isfinite(self.performance).all()):
            raise ValueError("a count or a performance of a mix is not finite")


def draw_mix(phi: Numbers, budget: int, draw: np.random.Generator) -> Chosen:
    """A random mix of exactly `budget` pairs for people: features have random propensities, so that compositions vary.

    Pairs are drawn without replacement with weights exp(w . phi), w ~ N(0, 1) drawn for each mix: drawn evenly, all
    counts would rise with the budget and nothing would tell features apart.
    """
    logits = phi @ draw.normal(size=phi.shape[1]) + draw.gumbel(size=len(phi))
    chosen = np.zeros(len(phi), dtype=np.bool_)
    chosen[np.argsort(-logits, kind="stable")[:budget]] = True
    return chosen


def simulate(phi: Numbers, measure: Callable[[Chosen], float], *, count: int, seed: int) -> Mixes:
    """Try mixes: budgets even over 0 .. N; `measure` trains on labels of which those chosen are people's.

    phi        [N, F] features of a pool that has labels of both kinds.
    measure    [N] -> performance, higher is better: held-out accuracy of a reward model, say.

    Raises ValueError for fewer than two mixes or a performance that is not finite.
    """
    if count < 2:
        raise ValueError(f"a predictor needs at least two mixes, got {count}")
    draw = np.random.default_rng(seed)
    budgets = np.round(np.linspace(0, len(phi), count)).astype(int)
    chosen = [draw_mix(phi, budget, draw) for budget in draw.permutation(budgets)]
    return Mixes(
        np.stack([phi[c].sum(axis=0) for c in chosen]), np.array([measure(c) for c in chosen], dtype=float)
    )


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predicted performance of a mix from its counts n: a + w . z, or with squares and products of z; z = n / scale.

    weights    [F], or [F + F (F + 1) / 2] of a quadratic one.
    scale      [F] largest count of each feature among the mixes.
    r_squared  on mixes that the fit did not see; None without any.
    """

    intercept: float
    weights: Numbers
    scale: Numbers
    quadratic: bool
    r_squared: float | None

    def predict(self, counts: Numbers) -> Numbers:
        """Performance of mixes with these counts, [..., F] -> [...]."""
        return self.intercept + _terms(counts / self.scale, self.quadratic) @ self.weights

    def gains(self, phi: Numbers) -> Numbers:
        """Gain of each pair if people label it, sum_f w_f phi_f, [N]: the rise of the prediction's linear part."""
        return phi @ (self.weights[: phi.shape[1]] / self.scale)

    def route(self, phi: Numbers, budget: int, ids: Sequence[str], *, seed: int = 0) -> Chosen:
        """The pairs that people label, exactly `budget` of them.

        A linear predictor is additive over pairs, so its `budget` largest gains are the exact optimum. A quadratic one
        takes the best predicted of random mixes and of that greedy one. Equal gains are ordered by a hash of the id:
        the order of rows does not matter. Raises ValueError for a budget outside 0 .. N, or ids that repeat.
        """
        if not 0 <= budget <= len(phi):
            raise ValueError(f"people can label between 0 and {len(phi)} of these pairs, not {budget}")
        if len(set(ids)) != len(phi):
            raise ValueError("every pair needs an id of its own")
        by_hash = np.argsort([hashlib.sha256(f"{seed} {name}".encode()).digest() for name in ids])
        gains = np.round(self.gains(phi), 12)  # sums in another order differ in their last bits
        order = by_hash[np.argsort(-gains[by_hash], kind="stable")]
        best = np.zeros(len(phi), dtype=np.bool_)
        best[order[:budget]] = True
        if not self.quadratic:
            return best
        draw = np.random.default_rng(seed)
        mixes = [best]
        for _ in range(CANDIDATES):  # drawn over pairs in the order of their hashes
            chosen = np.zeros_like(best)
            chosen[by_hash] = draw_mix(phi[by_hash], budget, draw)
            mixes.append(chosen)
        return mixes[int(np.argmax(self.predict(np.stack([phi[c].sum(axis=0) for c in mixes]))))]


def fit_predictor(mixes: Mixes, *, quadratic: bool = False, ridge: float = 1e-3, seed: int = 0) -> Predictor:
    """Performance predictor by ridge regression on counts of features; a fifth of the mixes measures it first.

        minimise   mean (performance - a - w . z)^2 + ridge |w|^2

    The penalty chooses among equally good weights: the three bins of a feature sum to the budget in every mix. Of 5
    mixes or more, one fifth gives R^2; the predictor returned is fitted on all. Raises ValueError for fewer than two
    mixes, or a negative ridge.
    """
    if len(mixes.counts) < 2 or not ridge >= 0:
        raise ValueError(f"need two mixes and a ridge of at least 0, got {len(mixes.counts)} and {ridge!r}")
    scale = np.maximum(mixes.counts.max(axis=0), 1.0)
    terms, y = _terms(mixes.counts / scale, quadratic), mixes.performance
    order = np.random.default_rng(seed).permutation(len(y))
    test, train = np.split(order, [len(y) // 5])
    r_squared = None
    if len(test) and len(train) > 1:
        a, w = _ridge(terms[train], y[train], ridge)
        spread = float(((y[test] - y[test].mean()) ** 2).sum())
        error = float(((y[test] - a - terms[test] @ w) ** 2).sum())
        r_squared = 1 - error / spread if spread > 0 else None
    a, w = _ridge(terms, y, ridge)
    return Predictor(a, w, scale, quadratic, r_squared)


def _ridge(terms: Numbers, y: Numbers, ridge: float) -> tuple[float, Numbers]:
    centre, level = terms.mean(axis=0), float(y.mean())
    x = terms - centre
    gram = x.T @ x / len(y) + max(ridge, 1e-12) * np.eye(x.shape[1])
    w = np.linalg.solve(gram, x.T @ (y - level) / len(y))
    return level - float(centre @ w), w


def _terms(z: Numbers, quadratic: bool) -> Numbers:
    if not quadratic:
        return z
    first, second = np.triu_indices(z.shape[-1])
    return np.concatenate([z, z[..., first] * z[..., second]], axis=-1)
