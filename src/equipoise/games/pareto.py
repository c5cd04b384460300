"""Pareto fronts of vector returns: constrained extension (C-MORL), hypervolume, expected utility, sparsity.

front = discover(deep_sea_treasure("concave"), weights=201, rounds=4, select=5, beta=0.9)
front.points          [N, m] non-dominated returns, each of a policy of the archive

Source: Liu et al. 2024 (2410.02236), C-MORL; metrics and defaults were read in the authors' code. Both stages are
solved exactly here, as linear programs over occupancy measures; the slack of a constraint is relative to the range of
its objective, because the code's beta G tightens a constraint where returns are negative (DERIVED).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from equipoise.games.mdp import Floats, Infeasible, TabularMdp, policy_of

FINE = 201  # weight vectors of expected utility


def dominated(points: Floats, tolerance: float = 1e-9) -> np.ndarray:
    """[N] whether another point is at least as good in every objective and better in one; of equal ones the first
    stays."""
    found = np.zeros(len(points), dtype=bool)
    for i, point in enumerate(points):
        better = (points >= point - tolerance).all(axis=1) & (points > point + tolerance).any(axis=1)
        same = (np.abs(points[:i] - point) <= tolerance).all(axis=1)
        found[i] = better.any() or bool((same & ~found[:i]).any())
    return found


def hypervolume(points: Floats, reference: Floats) -> float:
    """Volume that is dominated by the points and dominates the reference point, exactly, for any number of objectives.

    0 for no point above the reference. Of one point it is the product of its distances.
    """
    inside = np.unique(points[(points > reference).all(axis=1)], axis=0)
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(inside.max() - reference[0])
    levels = np.unique(inside[:, -1])[::-1]  # slices along the last objective, from the top
    floors = [*levels[1:], reference[-1]]
    total = 0.0
    for top, floor in zip(levels, floors, strict=True):
        above = inside[inside[:, -1] >= top][:, :-1]
        total += (top - floor) * hypervolume(above, reference[:-1])
    return float(total)


def expected_utility(points: Floats, weights: Floats) -> float:
    """Mean over weight vectors [W, m] of the best w . G among the points."""
    return float((weights @ points.T).max(axis=1).mean())


def sparsity(points: Floats) -> float:
    """Mean squared gap of the points along each objective, summed; 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    return float((np.diff(np.sort(points, axis=0), axis=0) ** 2).sum() / (len(points) - 1))


def crowding(points: Floats) -> Floats:
    """NSGA-II's crowding distance of each point; infinite at the ends of an objective."""
    found = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        spread = values[order[-1]] - values[order[0]]
        found[order[[0, -1]]] = np.inf
        if spread > 0 and len(points) > 2:
            found[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / spread
    return found


def simplex(count: int, objectives: int) -> Floats:
    """Weight vectors on a grid of the simplex: `count` of them for two objectives; for more, all with steps of 1/n,
    the largest n that gives at most `count`. Raises ValueError for fewer than `objectives`."""
    if count < objectives:
        raise ValueError(f"{objectives} objectives need at least as many weight vectors, got {count}")

    def grid(steps: int, parts: int) -> list[tuple[int, ...]]:
        if parts == 1:
            return [(steps,)]
        return [(k, *rest) for k in range(steps + 1) for rest in grid(steps - k, parts - 1)]

    steps = 1
    while len(grid(steps + 1, objectives)) <= count:
        steps += 1
    return np.array(grid(steps, objectives), dtype=np.float64) / steps


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one round of the search found: the archive's points then, and its metrics."""

    name: str
    points: Floats
    hypervolume: float
    expected_utility: float
    sparsity: float


@dataclass(frozen=True, kw_only=True)
class Front:
    """A Pareto front: its points [N, m], their policies, the course of the search, and constraint violations.

    violation   the largest amount by which a constrained solution missed its constraint.
    """

    points: Floats
    policies: Sequence[Floats] = field(repr=False)
    stages: Sequence[Stage]
    reference: Floats
    violation: float


def discover(
    mdp: TabularMdp,
    *,
    reference: Sequence[float],
    weights: int = 201,
    rounds: int = 4,
    select: int = 5,
    beta: float = 0.9,
) -> Front:
    """C-MORL: policies of a grid of linear preferences, then the front extended from its sparsest points.

        stage 1   max_pi w . G                                                                for every w of a grid
        stage 2   max_pi G_l  s.t.  G_j >= G_j(r) - (1 - beta) range_j,  j != l               for every l

    from `select` points r of the largest crowding distance that were not selected before; `rounds` times.

    reference   [m] point below the front, for hypervolume.      beta   in (0, 1]

    Raises ValueError for parameters out of range or a reference of another size.
    """
    objectives = mdp.reward.shape[2]
    if len(reference) != objectives:
        raise ValueError(f"the reference point needs {objectives} coordinates, got {len(reference)}")
    if not 0 < beta <= 1 or rounds < 0 or select < 1:
        raise ValueError(f"need 0 < beta <= 1, rounds >= 0, select >= 1, got {beta}, {rounds}, {select}")
    low = np.asarray(reference, dtype=np.float64)
    found = [mdp.best_occupancy(w) for w in simplex(weights, objectives)]
    grid = simplex(max(weights, FINE), objectives)  # on which expected utility is measured
    points, policies = _kept([mdp.worth(rho) for rho in found], [policy_of(rho) for rho in found])
    stages = [_stage("weights", points, low, grid)]
    selected: list[Floats] = []
    violation = 0.0
    for number in range(1, rounds + 1):
        spread = points.max(axis=0) - points.min(axis=0)
        order = np.argsort(-crowding(points), kind="stable")
        fresh = [k for k in order if not any(np.allclose(points[k], old) for old in selected)][:select]
        selected += [points[k] for k in fresh]
        worths, made = [*points], [*policies]
        for point in points[fresh]:
            for objective in range(objectives):
                bounds = {j: point[j] - (1 - beta) * spread[j] for j in range(objectives) if j != objective}
                try:
                    rho = mdp.best_occupancy(np.eye(objectives)[objective], bounds)
                except Infeasible:
                    continue
                worth = mdp.worth(rho)
                violation = max(violation, *(bound - worth[j] for j, bound in bounds.items()))
                worths.append(worth)
                made.append(policy_of(rho))
        points, policies = _kept(worths, made)
        stages.append(_stage(f"extension {number}", points, low, grid))
    return Front(points=points, policies=policies, stages=stages, reference=low, violation=float(violation))


def _kept(points: Sequence[Floats], policies: Sequence[Floats]) -> tuple[Floats, list[Floats]]:
    """The non-dominated ones, by their first objective."""
    stacked = np.array(points)
    stays = np.flatnonzero(~dominated(stacked, 1e-6))
    order = stays[np.argsort(stacked[stays, 0], kind="stable")]
    return stacked[order], [policies[k] for k in order]


def _stage(name: str, points: Floats, reference: Floats, grid: Floats) -> Stage:
    return Stage(
        name=name,
        points=points,
        hypervolume=hypervolume(points, reference),
        expected_utility=expected_utility(points, grid),
        sparsity=sparsity(points),
    )
