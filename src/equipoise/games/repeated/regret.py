"""Online learning on the simplex: learners, their regret, and self-play on a preference game.

A learner plays against S sequences of losses l_1, l_2, ... at once. It is any callable

    losses [S, T, A] -> plays [S, T + 1, A]

with plays p_t that depend on l_1 .. l_{t-1} only, so the last row is the next play. A play costs <l_t, p_t>.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import binom, linregress
from scipy.stats import t as student
from torch import Tensor

from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy

Losses: TypeAlias = Float[Tensor, "S T A"]
Plays: TypeAlias = Float[Tensor, "S T A"]
Regrets: TypeAlias = Float[Tensor, "S T"]
Learner: TypeAlias = Callable[[Losses], Plays]


# --- responses: argmin_p { <z, p> + Psi(p) } over the simplex, for z [..., A]


def entropic(z: Tensor) -> Tensor:
    """Entropic regulariser Psi = sum p log p: p ~ exp(-z)."""
    return (-z).softmax(dim=-1)


def project_simplex(x: Tensor) -> Tensor:
    """Euclidean projection argmin_p |p - x|: max(x - c, 0), with sum 1. Differentiable almost everywhere."""
    ordered = x.sort(dim=-1, descending=True).values
    level = (ordered.cumsum(dim=-1) - 1) / torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = (ordered > level).sum(dim=-1, keepdim=True)  # the entries that stay positive
    return (x - level.gather(-1, support - 1)).clamp(min=0)


def euclidean(z: Tensor) -> Tensor:
    """L2 regulariser Psi = |p|^2/2: the Euclidean projection of -z."""
    return project_simplex(-z)


def log_barrier(z: Tensor) -> Tensor:
    """Log barrier Psi = sum log(1/p): p_i = 1/(z_i + nu), with nu such that it sums to 1; p > 0 (2301.12942).

    With u = z - min z and m = nu + min z, s(m) = sum 1/(u_i + m) falls from s(1) >= 1 to s(A) <= 1. The
    harmonic mean 1/s is increasing and concave, so Newton's method on 1/s = 1 rises from m = 1 to the root
    without overshooting: no safeguard is needed. DERIVED; checked against bisection in the tests.
    """
    u = z - z.amin(dim=-1, keepdim=True)
    m = torch.ones_like(u[..., :1])
    for _ in range(50):  # nine suffice for 1000 actions at any scale
        p = 1 / (u + m)
        total = p.sum(dim=-1, keepdim=True)
        step = total * (total - 1) / p.square().sum(dim=-1, keepdim=True)
        m = m + step
        if not bool((step > 1e-15 * m).any()):
            break
    p = 1 / (u + m)
    return p / p.sum(dim=-1, keepdim=True)


def leader(z: Tensor) -> Tensor:
    """No regulariser, Psi = 0: all mass on the least z, ties to the first."""
    return torch.nn.functional.one_hot(z.argmin(dim=-1), z.shape[-1]).to(z.dtype)


class Regulariser(NamedTuple):
    """A regularised response, and its inverse dual = -grad Psi: respond(dual(p)) = p."""

    respond: Callable[[Tensor], Tensor]
    dual: Callable[[Tensor], Tensor]


ENTROPY = Regulariser(entropic, lambda p: -p.log())
L2 = Regulariser(euclidean, torch.neg)
LOG_BARRIER = Regulariser(log_barrier, torch.reciprocal)


# --- learners


@dataclass(frozen=True, kw_only=True, eq=False)
class Ftrl:
    """Follow the regularised leader.

        p_t = argmin_p { <L_{t-1} + m_t, p> + D_Psi(p, p_1)/eta_t },    L_{t-1} = l_1 + ... + l_{t-1}

    eta           step eta_t; with `anytime`, eta_t = eta/sqrt(t), for an unknown horizon.
    optimistic    m_t = l_{t-1}, which predicts the last loss again; else m_t = 0.
    start         p_1, [A] or [S, A]; default uniform. D_Psi is the Bregman divergence from it.

    ENTROPY with a constant step is Hedge, p_{t+1} ~ p_t exp(-eta l_t), with regret at most
    KL(u || p_1)/eta + eta T/8 against any u, for losses in a range of 1. L2 projects p_1 - eta L, lazily. Adding a
    constant to a round's losses changes nothing. Raises ValueError unless eta > 0.
    """

    regulariser: Regulariser
    eta: float
    anytime: bool = False
    optimistic: bool = False
    start: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.eta > 0:
            raise ValueError(f"eta must be positive, got {self.eta!r}")

    def __call__(self, losses: Losses) -> Plays:
        total = known(losses.cumsum(dim=1))
        if self.optimistic:
            total = total + known(losses)
        if self.anytime:
            total = total / torch.arange(1, total.shape[1] + 1, dtype=total.dtype).sqrt().unsqueeze(1)
        origin = total.new_zeros(()) if self.start is None else self._dual(self.start)
        return self.regulariser.respond(self.eta * total + origin)

    def _dual(self, start: Tensor) -> Tensor:
        return self.regulariser.dual(start.unsqueeze(-2))


def hedge(eta: float, *, optimistic: bool = False, start: Tensor | None = None) -> Ftrl:
    """Exponential weights, or with `optimistic` the learner of ONPO: p_{t+1} ~ p_t exp(-eta (2 l_t - l_{t-1}))."""
    return Ftrl(regulariser=ENTROPY, eta=eta, optimistic=optimistic, start=start)


def follow_the_leader(losses: Losses) -> Plays:
    """Follow the leader: the best action so far, ties to the first; linear regret against alternating losses."""
    return leader(known(losses.cumsum(dim=1)))


@dataclass(frozen=True, kw_only=True)
class PerturbedLeader:
    """FTPL: p_t = mean over `draws` of the argmin of L_{t-1} - g/eta, with standard Gumbel g, fresh each round.

    Its expectation is Hedge with step eta exactly (the Gumbel-max trick), so `hedge(eta)` is its exact form.
    Plays are a function of the losses and the seed.
    """

    eta: float
    draws: int = 1
    seed: int = 0

    def __call__(self, losses: Losses) -> Plays:
        total = self.eta * known(losses.cumsum(dim=1)).transpose(0, 1)
        # rounds first: a longer history does not change the noise of earlier rounds
        noise = np.random.default_rng(self.seed).gumbel(size=(*total.shape[:2], self.draws, total.shape[2]))
        return leader(total.unsqueeze(2) - torch.from_numpy(noise)).mean(dim=2).transpose(0, 1)


def known(rows: Losses) -> Losses:
    """Shift rows by one round, zeros first: the information before each round, [S, T + 1, A]."""
    return torch.nn.functional.pad(rows, (0, 0, 1, 0))


# --- regret


def external_regret(losses: Losses, plays: Plays) -> Regrets:
    """External regret Reg_t = sum_{s<=t} <l_s, p_s> - min_i sum_{s<=t} l_{s,i} for t = 1 .. T, without a next play."""
    return paid(losses, plays) - losses.cumsum(dim=1).amin(dim=2)


def dynamic_regret(losses: Losses, plays: Plays) -> Regrets:
    """Dynamic regret DReg_t = sum_{s<=t} <l_s, p_s> - sum_{s<=t} min_i l_{s,i}: against each round's best action."""
    return paid(losses, plays) - losses.amin(dim=2).cumsum(dim=1)


def paid(losses: Losses, plays: Plays) -> Regrets:
    """Cumulative loss sum_{s<=t} <l_s, p_s>. Raises ValueError if plays and losses do not match."""
    sequences, rounds, actions = losses.shape
    if plays.shape[::2] != (sequences, actions) or plays.shape[1] not in (rounds, rounds + 1):
        raise ValueError(f"plays {tuple(plays.shape)} do not match losses {tuple(losses.shape)}")
    return (losses * plays[:, :rounds]).sum(dim=2).cumsum(dim=1)


def trend_p_value(regret: Regrets) -> Float[Tensor, S]:
    """P-value of the null hypothesis "Reg_t/t does not fall": a sign test on its T - 1 differences.

    Source: the trend check of Park et al. 2024 (2403.16843), RECALLED.
    """
    per_round = regret / torch.arange(1, regret.shape[1] + 1, dtype=regret.dtype)
    falls = (per_round.diff(dim=1) < 0).sum(dim=1)
    return torch.from_numpy(binom.sf(falls.numpy() - 1, regret.shape[1] - 1, 0.5))


class Growth(NamedTuple):
    """Fitted power of t of each regret, and the p-value of the null hypothesis "the power is 1 or more", [S] each."""

    power: Float[Tensor, S]
    p_value: Float[Tensor, S]


def regret_growth(regret: Regrets) -> Growth:
    """Regression test of no regret: least squares of log Reg_t on log t over rounds with Reg_t > 0, one-sided t test.

    nan where fewer than three rounds have positive regret: a player that never pays for its ignorance has no power. The
    rounds of one run depend on each other, so that p-values are too small; those of several runs say more.

    Source: the regression check of Park et al. 2024 (2403.16843), RECALLED.
    """
    powers, p_values = [], []
    for row in regret.double().numpy():
        kept = row > 0
        if kept.sum() < 3:
            powers.append(math.nan)
            p_values.append(math.nan)
            continue
        x = np.log(np.arange(1, len(row) + 1)[kept])
        fit = linregress(x, np.log(row[kept]))
        powers.append(float(fit.slope))
        certain = float(fit.slope < 1) if not fit.stderr > 0 else None
        score = 0.0 if certain is not None else (fit.slope - 1) / fit.stderr
        p_values.append(1 - certain if certain is not None else float(student.cdf(score, len(x) - 2)))
    return Growth(torch.tensor(powers).double(), torch.tensor(p_values).double())


def magnitude_reduced(estimate: Tensor, mean_negative: Tensor) -> Tensor:
    """Magnitude-reduced estimate z - min(z, 0) + E[min(z, 0)]: the same mean as z, but never below E[min(z, 0)].

    Source: Dai et al. 2023 (2301.12942), RECALLED.
    """
    return estimate.clamp(min=0) + mean_negative


# --- loss sequences and self-play


def alternating(rounds: int, actions: int = 2) -> Losses:
    """Alternating losses (1/2, 0), (0, 1), (1, 0), (0, 1), ...: the leader always loses. Further actions lose 1."""
    losses = torch.ones(1, rounds, actions, dtype=torch.float64)
    losses[:, 1::2, 0] = losses[:, ::2, 1] = 0
    losses[:, :1, 0] = 0.5
    return losses


class History(NamedTuple):
    """Losses and plays of a run, [X, T, A] each."""

    losses: Losses
    plays: Plays

    def mean(self) -> TabularPolicy:
        """The average play of each prompt."""
        return TabularPolicy.from_probs(self.plays.mean(dim=1))


def self_play(game: PreferenceGame, learner: Learner, rounds: int) -> History:
    """Self-play for T rounds, each prompt a separate sequence: l_t = 1/2 - P(. > p_t).

    Then <l_t, p_t> = 0 in every round for any learner, so that gap0(mean) = 2 Reg_T/T exactly: the mean
    converges to Nash as fast as the regret per round vanishes. DERIVED.
    """
    losses = torch.zeros(game.prompts, rounds, game.actions, dtype=torch.float64)
    plays = torch.zeros_like(losses)
    for t in range(rounds):
        plays[:, t] = learner(losses[:, :t])[:, -1]
        losses[:, t] = 0.5 - torch.einsum("xab,xb->xa", game.preference, plays[:, t])
    return History(losses, plays)
