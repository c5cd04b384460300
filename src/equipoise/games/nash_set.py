"""The set of Nash policies of a game of one prompt: its range, and its maximum-entropy member.

The symmetric Nash policies form a polytope, { pi a distribution : sum_y' P(y > y') pi(y') <= 1/2 for every y }.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp, softmax

from equipoise.core.dims import Strategy
from equipoise.games.fit import NotConverged
from equipoise.games.gaps import gap0
from equipoise.games.preference import TOLERANCE, PreferenceGame
from equipoise.games.tabular import TabularPolicy

Array = npt.NDArray[np.float64]
USED = 1e-7  # probabilities below this count as rounding error of a linear program
EXPLOITABLE = 1e-7  # largest accepted gap of a solution


def nash_range(game: PreferenceGame, *, slack: float = 0.0) -> Strategy:
    """Range of Nash equilibria: least and largest probability of each response over all Nash policies, [2, A].

    slack    > 0 also admits policies that some response beats with probability up to 1/2 + slack: the sensitivity of
             the equilibrium to an error of that size in P.

    The Nash policy is unique if and only if both rows agree. 2A linear programs; none if a response beats all
    others, which is then the only equilibrium. Raises ValueError for a game of several prompts.
    """
    margin = _margin(game)
    sure = (margin + np.eye(len(margin)) > TOLERANCE).all(axis=1)
    if sure.any() and slack == 0:
        return torch.as_tensor(np.tile(sure.astype(np.float64), (2, 1)))
    vertices = [[_vertex(margin, y, sign, slack)[y] for y in range(len(margin))] for sign in (1, -1)]
    return torch.as_tensor(np.clip(vertices, 0, 1))


def nash_average(game: PreferenceGame, bounds: Strategy | None = None) -> TabularPolicy:
    """Maximum-entropy Nash policy (Nash averaging): unique, with equal probabilities for copies of a response.

        max H(pi)  subject to  M pi <= 0,  pi a distribution,      M = P - 1/2

    bounds    `nash_range(game)`, if already computed.

    A response in the support of some Nash policy wins with exactly 1/2 against every Nash policy, so with S the union
    of their supports the optimum is pi ~ exp(-mu^T M) on S, where mu minimises the convex dual

        log sum_{s in S} exp( -(mu^T M)_s ),    mu free on S, mu >= 0 elsewhere.

    Source: Balduzzi et al. 2018 (1806.02643); the dual is DERIVED (Lagrange), checked in the tests against
    the limit of the regularised Nash policy as tau -> 0. Raises NotConverged if the gap exceeds 1e-7.
    """
    low, high = (nash_range(game) if bounds is None else bounds).numpy()
    if (high - low).max() < USED:
        return TabularPolicy.from_probs(high / high.sum())
    margin, used = _margin(game), high > USED
    columns = margin[:, used]

    def dual(mu: Array) -> tuple[float, Array]:
        scores = -mu @ columns
        return float(logsumexp(scores)), -columns @ softmax(scores)

    optimum = minimize(
        dual,
        np.zeros(len(margin)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None) if on else (0, None) for on in used],
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": 1e-11, "maxcor": 30},
    )
    probs = np.zeros(len(margin))
    probs[used] = softmax(-optimum.x @ columns)
    policy = TabularPolicy.from_probs(probs)
    gap = float(gap0(game, policy).max())
    if gap > EXPLOITABLE:
        raise NotConverged("maximum-entropy Nash policy", residual=gap, best=policy.logits)
    return policy


def _margin(game: PreferenceGame) -> Array:
    if game.prompts != 1:
        raise ValueError(f"the set of Nash policies needs a game of one prompt, got {game.prompts}")
    return game.preference[0].numpy() - 0.5


def _vertex(margin: Array, y: int, sign: int, slack: float) -> Array:
    """The Nash policy with the least (sign 1) or largest (sign -1) probability of y."""
    size = len(margin)
    solution = linprog(
        c=sign * np.eye(size)[y],
        A_ub=margin,
        b_ub=np.full(size, slack),
        A_eq=np.ones((1, size)),
        b_eq=[1.0],
        bounds=(0, 1),
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if solution.x is None:
        raise NotConverged(solution.message, residual=float("inf"), best=torch.empty(0))
    return solution.x
