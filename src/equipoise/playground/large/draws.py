r"""Cycles over three styles that no Bradley-Terry policy can play, drawn for each mood and weather.

A draw is Nash weights w and a reference rho over the styles. The margins of the cycle are m_12 : m_23 : m_31 = w_3 :
w_1 : w_2 with the largest at `TOP`, P(i beats j) = 1/2 + m_ij, and then w is the game's Nash policy (as in
`playground.panel`). A Bradley-Terry policy at temperature beta is

    pi_beta(i) ~ rho(i) exp(r_i / beta),    r = argmin_r sum_ij u_i u_j cross-entropy(P_ij, sigma(r_i - r_j)),

r the reward that fits the comparisons best: of pairs from the reference (u = rho) or of all pairs (u = 1). A draw is
accepted only if both kinds of policies have exploitability 2 max_i P(i beats pi_beta) - 1 above `LEAST` at every beta
in (0, inf]. In half of the draws the largest Nash weight is above one half.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from equipoise.playground.large.grammar import MOODS, STYLES, WEATHERS

Floats = npt.NDArray[np.float64]

SEED = 20
TOP = 0.43  # the largest margin, 93 % of the verdicts; what is left to 1 is for the quality
LEAST = 0.21  # exploitability of every Bradley-Terry policy
WEIGHTS = (0.1, 0.7)
POURED = 0.04  # least share of a style in the reference
SKEWED = 0.5  # half of the draws have a weight above it
CANDIDATES = 20_000
BETAS = np.concatenate([[np.inf], np.geomspace(100, 0.005, 200)])


@dataclass(frozen=True)
class Cycle:
    """A drawn game over the styles: Nash weights [3], margins [3, 3] (antisymmetric) and the reference's shares [3]."""

    nash: Floats
    margins: Floats
    pours: Floats


@cache
def cycles() -> dict[tuple[str, str], Cycle]:
    """The drawn cycle of each (weather, mood). Raises AssertionError if too few candidates pass."""
    draw = np.random.default_rng(SEED)
    nash, pours = draw.dirichlet([1.2] * 3, CANDIDATES), draw.dirichlet([1.0] * 3, CANDIDATES)
    turn = draw.choice([-1.0, 1.0], CANDIDATES)
    low, high = WEIGHTS
    sound = (nash.min(1) >= low) & (nash.max(1) <= high) & (pours.min(1) >= POURED)
    nash, pours, turn = nash[sound], pours[sound], turn[sound]
    margins = margins_of(nash, turn)
    accepted = least_exploitability(margins, pours) > LEAST
    steep = nash.max(1) > SKEWED
    games = [(weather, mood) for weather in WEATHERS for mood in MOODS]
    halves = [np.flatnonzero(accepted & steep), np.flatnonzero(accepted & ~steep)]
    assert min(map(len, halves)) >= len(games) // 2, "too few candidates for the drawn cycles were accepted"
    found = {}
    for place, game in enumerate(games):
        i = halves[place % 2][place // 2]
        found[game] = Cycle(nash[i], margins[i], pours[i])
    return found


def margins_of(nash: Floats, turn: Floats) -> Floats:
    """[N, 3, 3] margins whose Nash policies are `nash` [N, 3]; turn +1: 1 beats 2 beats 3 beats 1, -1: the reverse."""
    edges = np.stack([nash[:, 2], nash[:, 0], nash[:, 1]], axis=1)
    edges = turn[:, None] * TOP * edges / edges.max(1, keepdims=True)
    table = np.zeros((len(nash), len(STYLES), len(STYLES)))
    for place, (i, j) in enumerate(((0, 1), (1, 2), (2, 0))):
        table[:, i, j] = edges[:, place]
    return table - table.swapaxes(1, 2)


def least_exploitability(margins: Floats, reference: Floats) -> Floats:
    """[N] the least exploitability of a Bradley-Terry policy over all temperatures and both fits."""
    uniform = np.full_like(reference, 1 / reference.shape[1])
    return np.minimum(*(_along(margins, reference, fitted(margins, u)) for u in (reference, uniform)))


def fitted(margins: Floats, share: Floats, steps: int = 30) -> Floats:
    """[N, K] the Bradley-Terry reward that fits P = 1/2 + margins best on pairs from `share`, by Newton's method."""
    size = share.shape[1]
    weight = share[:, :, None] * share[:, None, :] * (1 - np.eye(size))
    reward = np.zeros_like(share)
    for _ in range(steps):
        prob = 1 / (1 + np.exp(reward[:, None, :] - reward[:, :, None]))
        gradient = (weight * (0.5 + margins - prob)).sum(2)
        slope = weight * prob * (1 - prob)
        curvature = np.eye(size) * slope.sum(2)[:, :, None] - slope + 1 / size  # the constant vector is free
        reward = reward + np.linalg.solve(curvature, gradient[..., None])[..., 0]
    return reward - reward.mean(1, keepdims=True)


def _along(margins: Floats, reference: Floats, reward: Floats) -> Floats:
    """[N] the least exploitability of reference exp(reward / beta) over beta."""
    logits = np.log(reference)[:, None] + reward[:, None] / BETAS[:, None]
    policy = np.exp(logits - logits.max(2, keepdims=True))
    policy /= policy.sum(2, keepdims=True)
    best = np.einsum("nij,nbj->nbi", margins, policy).max(2)
    least: Floats = 2 * best.min(1)
    return least
