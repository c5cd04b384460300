"""DPO's optimum depends on the policy that wrote the recorded pairs, and the policy does not learn to revise.
SRPO, self-improving robust preference optimization (2406.01660), trains one model as generator and as improver
of its own answers by an offline min-max objective: the generator's answers are to be hard to improve.

The losses were DERIVED from the min-max optimum; a public trainer has the same ones, and is the source of beta and
alpha.
"""

from dataclasses import replace

from equipoise.core.objectives import Srpo
from equipoise.games.srpo import Roles, solution
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import of
from equipoise.methods.tiny import TINY
from equipoise.play.pairings.recorded import InBothRoles

SRPO = replace(
    DPO,
    name="srpo",
    title="Self-Improving Robust Preference Optimization",
    paper="2406.01660",
    confidence="verified in code",
    pairing=InBothRoles(),
    objective=Srpo(beta=0.1, alpha=0.8),
    playground={**TINY, "objective.beta": 0.2, "train.eps": 1e-2, "train.epochs": 3},
    exact={"beta": 0.5},
    closed_form=lambda game, _, m: TabularPolicy(
        solution(game, Roles.of(game), m.parameters()["beta"]).generator
    ),
    sources={
        **DPO.sources,
        **of("a public trainer (frasermince/trl, srpo_trainer_2.py)", "beta alpha"),
    },
    notes="Its policy is hard to improve, not the Nash policy. The paper's authors published no code; the trainer is "
    "a third party's. Any alpha inside (0, 1) has the same population minimiser. `equipoise sample --revise N` has "
    "the policy revise its own answers.",
)
