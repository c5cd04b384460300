"""DPO's optimum depends on the policy that wrote the recorded pairs, and the policy does not learn to revise.
SRPO, self-improving robust preference optimization (2406.01660), trains one model as generator and as improver
of its own answers by an offline min-max objective: the generator's answers are to be hard to improve.

The losses' names and weights are DERIVED, and beta and alpha are not the paper's, which were not recovered.
"""

from dataclasses import replace

from equipoise.core.objectives import Srpo
from equipoise.games.srpo import Roles, solution
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import NOT_RECOVERED, of
from equipoise.methods.tiny import TINY
from equipoise.play.pairings.recorded import InBothRoles

SRPO = replace(
    DPO,
    name="srpo",
    title="Self-Improving Robust Preference Optimization",
    paper="2406.01660",
    confidence="derived",
    pairing=InBothRoles(),
    objective=Srpo(beta=0.1, alpha=0.5),
    playground={**TINY, "objective.beta": 0.2, "train.eps": 1e-2, "train.epochs": 3},
    exact={"beta": 0.5},
    closed_form=lambda game, _, m: TabularPolicy(
        solution(game, Roles.of(game), m.parameters()["beta"]).generator
    ),
    sources={
        **DPO.sources,
        **of(NOT_RECOVERED, "beta alpha"),
    },
    notes="Its policy is hard to improve, not the Nash policy. Answers are revised by "
    "policy.generation.self_revision.revise.",
)
