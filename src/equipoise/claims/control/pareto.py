"""C-MORL (2410.02236) on deep sea treasure: what constrained extension adds to a grid of linear preferences."""

from __future__ import annotations

from itertools import pairwise

from equipoise.claims.claim import Claim, Evidence, Line, Panel, Scale, Table, verdict
from equipoise.games.mdp import TREASURES, deep_sea_treasure
from equipoise.games.pareto import Front, discover

REFERENCE, SAME = (0.0, -50.0), 1e-6


def run(scale: Scale) -> Evidence:
    rounds = {"quick": 2, "full": 4}[scale]
    return judge(
        {kind: discover(deep_sea_treasure(kind), reference=REFERENCE, rounds=rounds) for kind in TREASURES}
    )


def judge(found: dict[str, Front]) -> Evidence:
    """found: map -> its front."""
    grown, steady, kept, utility = [], [], [], []
    for front in found.values():
        first, last = front.stages[0], front.stages[-1]
        volumes = [stage.hypervolume for stage in front.stages]
        grown.append(last.hypervolume > first.hypervolume and last.sparsity < first.sparsity)
        steady.append(all(b >= a - SAME for a, b in pairwise(volumes)))
        kept.append(front.violation <= SAME)
        utility.append(abs(last.expected_utility - first.expected_utility) <= SAME * first.expected_utility)
    concave = found["concave"]
    first, last = concave.stages[0], concave.stages[-1]
    return Evidence(
        verdict=verdict(all(grown), (all(steady), all(kept), all(utility), len(first.points) == 2)),
        summary=f"On the concave map 201 linear preferences find {len(first.points)} points (hypervolume "
        f"{first.hypervolume:.0f}); {len(concave.stages) - 1} rounds of extension {len(last.points)} "
        f"({last.hypervolume:.0f}), and sparsity falls from {first.sparsity:.0f} to {last.sparsity:.0f}; expected "
        f"utility under linear preferences stays {last.expected_utility:.2f}. The largest violation of a constraint is "
        f"{max(front.violation for front in found.values()):.1g}.",
        tables=(
            Table(
                "the archive after each stage (reference point 0, -50)",
                ("map", "stage", "points", "hypervolume", "expected utility", "sparsity"),
                tuple(
                    (kind, s.name, len(s.points), s.hypervolume, s.expected_utility, s.sparsity)
                    for kind, front in found.items()
                    for s in front.stages
                ),
            ),
        ),
        panels=tuple(
            Panel(
                f"{kind} map",
                "treasure",
                "minus steps",
                tuple(
                    Line(s.name, tuple(s.points[:, 0].tolist()), tuple(s.points[:, 1].tolist()))
                    for s in (front.stages[0], front.stages[-1])
                ),
                log_x=False,
                log_y=False,
            )
            for kind, front in found.items()
        ),
    )


CMORL_FRONT = Claim(
    name="cmorl_front",
    sentence="Constrained optimisation from sparse points of a Pareto front finds policies that no linear preference "
    "finds, so that the front's hypervolume grows and its sparsity falls.",
    paper="2410.02236",
    rule="Both stages as linear programs, on the concave and the convex map. Heart: extension raises the hypervolume "
    "and lowers the sparsity of both. Also: the hypervolume never falls; every constraint is met within 1e-6; the "
    "expected utility under linear preferences is that of the weights alone (they find every vertex of the hull); and "
    "on the concave map the weights alone find two points.",
    set="the rule before the run of the claim; the figures of both maps had been seen from the search alone.",
    program=run,
)
