"""Exploitability gaps, win rates and divergences, exact: the distance of a policy from equilibrium.

Each function returns one number per prompt, [X]; `game.mean` gives the prompt-weighted mean. Gaps are >= 0 in
exact arithmetic and are NOT clamped: at an equilibrium, rounding may show as a negative number of order 1e-16.
"""

from __future__ import annotations

import torch

from equipoise.core.dims import PerPrompt
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy


def win_rate(game: PreferenceGame, first: TabularPolicy, second: TabularPolicy) -> PerPrompt:
    """Win rate P(pi1 > pi2 | x); 1/2 for a policy against itself."""
    return game.value(first, second)


def gap0(game: PreferenceGame, policy: TabularPolicy) -> PerPrompt:
    """Duality gap (exploitability) of (pi, pi) in the unregularised game.

        gap0(pi) = max_pi1 P(pi1 > pi) - min_pi2 P(pi > pi2) = 2 max_y P(y > pi) - 1

    In [0, 1]; zero exactly at a Nash policy.
    """
    return 2 * game.win(policy).max(dim=1).values - 1


def gap_tau(game: PreferenceGame, policy: TabularPolicy, tau: float) -> PerPrompt:
    """Duality gap of (pi, pi) in the tau-regularised game, in closed form.

        J_tau(p, q) = P(p > q) - tau KL(p || ref) + tau KL(q || ref)
        gap_tau(pi) = 2 [ tau log sum_y ref(y) exp(P(y > pi)/tau) + tau KL(pi || ref) ] - 1

    Zero exactly at the regularised Nash policy; tends to gap0 as tau -> 0. Raises ValueError unless tau > 0.
    DERIVED from the definitions; reproduced by a search over both players in the tests.
    """
    if not tau > 0:
        raise ValueError(f"tau must be positive, got {tau!r}; use gap0 for the unregularised game")
    # centred at 1/2, the equilibrium value, to avoid cancellation at small tau
    payoff = game.win(policy) - 0.5
    best = torch.logsumexp(game.reference.log() + payoff / tau, dim=1)
    return 2 * tau * (best + kl(policy, game.initial()))


def kl(first: TabularPolicy, second: TabularPolicy) -> PerPrompt:
    """KL divergence KL(first || second) in nats; 0 log 0 = 0, and infinite if only `second` is zero."""
    p, log_p, log_q = first.probs(), first.log_probs(), second.log_probs()
    return torch.where(p > 0, p * (log_p - log_q), torch.zeros_like(p)).sum(dim=1)


def kl_to(policy: TabularPolicy, target: TabularPolicy) -> PerPrompt:
    """KL divergence KL(target || policy), the potential in which mirror methods contract to an equilibrium."""
    return kl(target, policy)
