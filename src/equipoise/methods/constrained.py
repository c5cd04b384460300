"""A reward model stands for what is wanted only up to a point; beyond it, more reward means worse answers, and with
several rewards each has a point of its own. Constrained RLHF (2310.04373) asks each score to reach its point and no
more: Lagrange multipliers, learned during the run, weigh the scores by how far they fall short.
"""

from dataclasses import replace

from equipoise.methods.policy_gradients import RLOO
from equipoise.methods.sources import CODE, OURS, of
from equipoise.play.pairings.constrained import Constrained
from equipoise.play.players.sampled import Self

CONSTRAINED = replace(
    RLOO,
    name="constrained",
    title="Constrained RLHF",
    paper="2310.04373",
    confidence="verified in code",
    pairing=Constrained(),
    in_theory=(Self(samples=2), Constrained()),
    playground={
        **RLOO.playground,
        "play.panel": "groups",
        "objective.thresholds": {"majority": 2.6, "minority": 2.6},
        "objective.multiplier_rate": 1.0,
        "objective.tau": 1.0,
    },
    sources={
        **RLOO.sources,
        "thresholds": "none: proxy points belong to the scores and are found on runs of each",
        **of(CODE, "momentum constraint"),
        "multiplier_rate": "authors' code: 0.01 to 0.1",
        "tau": OURS,
    },
    evidence=("tests/play/test_constrained.py", "constrained_proxy_points"),
    notes="`objective.thresholds={score: value}` gives the proxy points. The oracle gives named scores, as several "
    "reward models or a panel do. constraint=at_least is the paper's mu-PPO, equal its xi-PPO, which also lowers a "
    "score to its point. The authors train by PPO with a value head for each reward and normalise advantages by batch; "
    "here the base is RLOO, and a score counts in standard deviations of round 1. Multipliers begin at 0 instead of "
    "one shared draw of deviation 0.01. The search for proxy points by Nelder-Mead is not here.",
)
