"""SPAC-T, the theoretical form of SPAC: an explicit bounded critic and a mirror-descent actor.

Prompts are independent, so a batch of data sets (`offline.stack`) is a game with that many prompts; everything here
runs on arrays [S, A] with one small Newton solve per prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from equipoise.core.dims import PerPrompt, Strategy
from equipoise.games.closed_form import mirror_step
from equipoise.games.fit import NotConverged
from equipoise.games.offline import PairData
from equipoise.games.tabular import TabularPolicy

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SpacRun:
    """A run of SPAC-T.

    history    [T + 1, X, A] probabilities of pi_1 .. pi_{T+1}.
    critic     [X, A] the last critic f_T.
    """

    history: torch.Tensor
    critic: Strategy

    @property
    def rounds(self) -> int:
        """T."""
        return len(self.history) - 1

    @property
    def last(self) -> TabularPolicy:
        """pi_{T+1}, the policy after the last actor step."""
        return TabularPolicy.from_probs(self.history[-1])

    def mixture(self, rounds: int | None = None) -> TabularPolicy:
        """Uniform mixture of pi_1 .. pi_T (or of the first `rounds`), the policy that the theory returns."""
        return TabularPolicy.from_probs(self.history[: self.rounds if rounds is None else rounds].mean(dim=0))


def spac_t(
    data: PairData,
    start: TabularPolicy,
    *,
    lam: float | PerPrompt,
    bound: float,
    eta: float | PerPrompt,
    rounds: int,
) -> SpacRun:
    """Exact self-play with an adversarial critic, for T rounds.

        critic    f_t = argmin_{|f| <= B} { rel(pi_t; f) + lam L(f) }
        actor     pi_{t+1}(y) ~ pi_t(y) exp(eta f_t(y))
        rel(pi; f) = E_pi f - E_mu f,    L(f) = mean over pairs of -log sigma( f(y+) - f(y-) )

    start    pi_1, one row per prompt of the data.
    lam      weight of the preference loss, scalar or per prompt; theory: of order C sqrt(n).
    bound    B > 0, bound of the critic; a response outside the data gets f = -B.
    eta      actor step size, scalar or per prompt; theory: `actor_step`.

    Both terms are invariant to f -> f + c(x), so the critic is unique up to such a shift, which does not affect
    the actor. Source: Ji et al. 2024 (2406.04274); loop from a public summary, baseline and
    lambda DERIVED.
    """
    share, mu = data.share.numpy(), data.mu.numpy()
    lam_, eta_ = _per_prompt(lam, len(mu)), _per_prompt(eta, len(mu))
    log_pi = start.log_probs().numpy()
    f = np.zeros_like(mu)
    history = np.empty((rounds + 1, *mu.shape))
    history[0] = _softmax(log_pi)
    for t in range(rounds):
        f = _critic(share, history[t] - mu, lam_, bound, f)
        log_pi = log_pi + eta_[:, None] * f
        history[t + 1] = _softmax(log_pi)
    return SpacRun(history=torch.from_numpy(history), critic=torch.from_numpy(f))


def critic(
    data: PairData, policy: TabularPolicy, *, lam: float | PerPrompt, bound: float = float("inf")
) -> Strategy:
    """Exact critic argmin_{|f| <= B} { E_pi f - E_mu f + lam L(f) }, [X, A]; with B infinite the mean of f is 0.

    Raises NotConverged if there is no minimiser: with B infinite the objective is bounded below only if every
    response in the support of pi is in the data and lam outweighs the difference between pi and mu.
    """
    mu = data.mu.numpy()
    slope = policy.probs().numpy() - mu
    return torch.from_numpy(
        _critic(data.share.numpy(), slope, _per_prompt(lam, len(mu)), bound, np.zeros_like(mu))
    )


def critic_value(data: PairData, policy: TabularPolicy, f: Strategy, *, lam: float | PerPrompt) -> PerPrompt:
    """Critic objective rel(pi; f) + lam L(f), [X]."""
    slope = policy.probs().numpy() - data.mu.numpy()
    return torch.from_numpy(_value(data.share.numpy(), slope, _per_prompt(lam, len(slope)), f.numpy()))


def spac_step_exact(
    data: PairData, policy: TabularPolicy, *, lam: float, eta: float, bound: float = float("inf")
) -> TabularPolicy:
    """One round: critic, then actor. With B infinite it equals the exact minimiser of core's linear `Spac`.

    There `b = 1/eta`, `w_pref = lam`, `w_pess = 1`, no clip. DERIVED; lam -> infinity is DPO with reference
    pi_t and temperature 1/eta.
    """
    return mirror_step(policy, critic(data, policy, lam=lam, bound=bound), step=eta)


def actor_step(divergence: float, rounds: int, bound: float) -> float:
    """Actor step size eta = sqrt(2 KL(pi*||pi_1)/(T B^2)), which minimises the regret bound KL/eta + eta T B^2/2.

    From the uniform policy KL(pi*||pi_1) <= log A.
    """
    return float(np.sqrt(2 * divergence / (rounds * bound**2)))


def _per_prompt(value: float | PerPrompt, prompts: int) -> Array:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (prompts,))


def _softmax(log_pi: Array) -> Array:
    unnormalised = np.exp(log_pi - log_pi.max(axis=1, keepdims=True))
    return unnormalised / unnormalised.sum(axis=1, keepdims=True)


def _value(share: Array, slope: Array, lam: Array, f: Array) -> Array:
    margin = f[:, :, None] - f[:, None, :]
    return (slope * f).sum(axis=1) + lam * (share * np.logaddexp(0, -margin)).sum(axis=(1, 2))


def _critic(share: Array, slope: Array, lam: Array, bound: float, f: Array, steps: int = 200) -> Array:
    """Projected Newton in the box (Bertsekas 1982), one problem per row, warm-started at f.

    Coordinates at an active bound are fixed; the others take a projected Newton step with backtracking. A small
    ridge regularises the flat direction of a common shift.
    """
    from scipy.special import expit  # slow to import, and only needed here

    tolerance = 1e-11 * (1 + lam)
    diagonal = np.arange(f.shape[1])
    reach = 2 * min(bound, 4.0)
    residual = np.full(len(f), np.inf)
    for _ in range(steps):
        win = expit(f[:, None, :] - f[:, :, None])  # sigma(-(f_w - f_l)) at [winner, loser]
        pull = share * win
        gradient = slope + lam[:, None] * (pull.sum(axis=1) - pull.sum(axis=2))
        residual = np.abs(f - np.clip(f - gradient, -bound, bound)).max(axis=1)
        open_ = residual > tolerance
        if not open_.any():
            return f if np.isfinite(bound) else f - f.mean(axis=1, keepdims=True)
        held = ((f >= bound) & (gradient < 0)) | ((f <= -bound) & (gradient > 0))
        gradient = np.where(held, 0.0, gradient)
        edge = lam[:, None, None] * pull * (1 - win)
        edge = edge + edge.transpose(0, 2, 1)
        hessian = -edge
        hessian[:, diagonal, diagonal] += edge.sum(axis=2)
        ridge = 1e-9 * hessian[:, diagonal, diagonal].max(axis=1, keepdims=True) + 1e-12
        hessian[held[:, :, None] | held[:, None, :]] = 0
        hessian[:, diagonal, diagonal] += np.where(held, 1.0, ridge)
        direction = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        direction *= np.minimum(1, reach / np.maximum(np.abs(direction).max(axis=1), 1e-300))[:, None]
        f = _project(share, slope, lam, bound, f, np.where(open_[:, None], direction, 0.0), gradient)
    worst = float(residual.max())
    raise NotConverged(
        "the critic has no minimiser: a response that won (or lost) all of its pairs, or is in none, has no finite "
        "value where the policy writes it less (or more) than the data do; bound the critic (SPAC's clip, such as "
        "clip=10), or, where all preferences are uncertain, raise lambda (w_pref)",
        residual=worst,
        best=torch.from_numpy(f),
    )


def _project(
    share: Array, slope: Array, lam: Array, bound: float, f: Array, direction: Array, gradient: Array
) -> Array:
    """First point of the projected path f + t d, t = 1, 1/2, ..., with sufficient decrease, else f."""
    value = _value(share, slope, lam, f)
    slack = 1e-15 * (1 + np.abs(value) + lam)
    length = np.ones(len(f))
    moved = f
    for _ in range(50):
        moved = np.clip(f + length[:, None] * direction, -bound, bound)
        gain = (gradient * (moved - f)).sum(axis=1)
        refused = ~(_value(share, slope, lam, moved) <= value + 1e-4 * gain + slack)
        if not refused.any():
            return moved
        length = np.where(refused, length / 2, length)
    return np.where(refused[:, None], f, moved)
