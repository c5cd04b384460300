"""Equilibrium solvers: the Nash policy by linear programming, the KL-regularised one by Newton's method."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from equipoise.core.dims import Payoff, PerPrompt, Strategy
from equipoise.games.closed_form import best_response
from equipoise.games.fit import NotConverged, backtrack
from equipoise.games.gaps import gap0
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy

__all__ = ["NotConverged", "best_response", "nash", "regularised_nash"]


def nash(game: PreferenceGame) -> TabularPolicy:
    """A symmetric Nash policy of the unregularised game, per prompt.

        max v  subject to  sum_y pi(y) P(y > y') >= v for every y',  pi a distribution;  v* = 1/2

    Linear programming (HiGHS, dual simplex). If the Nash policy is not unique, this is a vertex of their set.
    Raises NotConverged if the solver fails or its policy is exploitable by more than 1e-9.
    """
    policy = TabularPolicy.from_probs(np.stack([_maximin(table) for table in game.preference.numpy()]))
    worst = float(gap0(game, policy).max())
    if worst > 1e-9:
        raise NotConverged("the LP's Nash policy is exploitable", residual=worst, best=policy.logits)
    return policy


def _maximin(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    from scipy.optimize import linprog  # slow to import, and not needed for the regularised game

    size = len(table)
    solution = linprog(
        c=np.append(np.zeros(size), -1.0),
        A_ub=np.hstack([-table.T, np.ones((size, 1))]),
        b_ub=np.zeros(size),
        A_eq=np.append(np.ones(size), 0.0)[None, :],
        b_eq=[1.0],
        bounds=[(0, 1)] * size + [(None, None)],
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if solution.x is None:
        raise NotConverged(solution.message, residual=float("inf"), best=torch.empty(0))
    probs = np.clip(solution.x[:-1], 0, None)
    return probs / probs.sum()


def regularised_nash(game: PreferenceGame, tau: float, *, tolerance: float = 1e-13) -> TabularPolicy:
    """The unique symmetric Nash policy of the tau-regularised game, a fixed point of its own best response:

        pi(y) ~ ref(y) exp( P(y > pi)/tau )

    Newton's method on the logits, F(theta) = theta - log ref - (P - 1/2) softmax(theta)/tau, with
    backtracking on |F|^2 and continuation in the temperature, halved from 1 down to tau. Convergence: P - 1/2 is
    antisymmetric, so the Jacobian I - (P - 1/2)(diag pi - pi pi^T)/tau has eigenvalues with real part 1 and
    is never singular, and |F| grows without bound; hence the solution is the only stationary point
    of |F|^2, and damped Newton reaches it from any start. The continuation only saves steps.

    Raises ValueError unless tau > 0, NotConverged if max |pi - best response to pi| exceeds the tolerance.
    """
    if not 0 < tau < float("inf"):
        raise ValueError(f"tau must be a positive number, got {tau!r}; use nash() for the unregularised game")
    log_ref, payoff = game.reference.log(), game.preference - 0.5
    logits = log_ref
    rung = max(1.0, tau)
    while rung > tau:
        logits = _fixed_point(log_ref, payoff / rung, logits)
        rung = max(rung / 2, tau)
    logits = _fixed_point(log_ref, payoff / tau, logits)
    policy = TabularPolicy(logits)
    residual = float((policy.probs() - _respond(log_ref, payoff / tau, logits).softmax(dim=1)).abs().max())
    if not residual <= tolerance:
        raise NotConverged(f"regularised Nash at tau = {tau!r}", residual=residual, best=logits)
    return policy


def _respond(log_ref: Strategy, payoff: Payoff, logits: Strategy) -> Strategy:
    return log_ref + torch.einsum("xab,xb->xa", payoff, logits.softmax(dim=1))


def _fixed_point(log_ref: Strategy, payoff: Payoff, logits: Strategy, steps: int = 100) -> Strategy:
    """Root of theta = log_ref + payoff @ softmax(theta), payoff antisymmetric, to rounding."""

    def merit(theta: Strategy) -> PerPrompt:
        return (theta - _respond(log_ref, payoff, theta)).square().sum(dim=1)

    identity = torch.eye(logits.shape[1], dtype=logits.dtype)
    value = merit(logits)
    for _ in range(steps):
        pi = logits.softmax(dim=1)
        spread = torch.diag_embed(pi) - pi.unsqueeze(2) * pi.unsqueeze(1)
        residual = logits - _respond(log_ref, payoff, logits)
        direction = -torch.linalg.solve(identity - payoff @ spread, residual)
        # along the Newton direction |F|^2 falls at rate 2 |F|^2
        length = backtrack(merit, logits, direction, value, -2 * value)
        moved = logits + length.unsqueeze(1) * direction
        reached = merit(moved)
        if not bool((reached < value).any()):
            break
        logits, value = (
            torch.where((reached < value).unsqueeze(1), moved, logits),
            torch.minimum(reached, value),
        )
    return logits
