"""A preference label does not say why a response is better. Rationale-augmented losses (2407.14477) add the
likelihood of a written reason for the preference to a pair loss: DPO, ORPO or SimPO.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo, Orpo, Simpo, WithRationale
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS, of
from equipoise.play.needs import PAIRS_WITH_RATIONALES
from equipoise.play.players.recorded import Recorded

RDPO_RATIONALE = replace(
    DPO,
    players=Recorded(needs=PAIRS_WITH_RATIONALES),
    name="rdpo_rationale",
    title="RDPO: DPO with rationales",
    paper="2407.14477",
    confidence="paper's text",
    objective=WithRationale(base=Dpo(beta=0.1), gamma_r=0.1),
    train={"lr": 5e-7, "batch": 64, "schedule": "linear", "warmup": 0.1},
    playground={**DPO.playground, "train.lr": 5e-4, "objective.gamma_r": 0.01},
    sources={
        **of(OURS, "schedule parts batch warmup average"),
        "beta": "authors' code",
        "smoothing": "0 is DPO",
        "gamma_r": "authors' configuration, for summed likelihoods",
        "form": "the paper",
        "lr": "authors' code",
    },
    notes="Not rDPO, which is robust to flipped labels. gamma_r is the paper's gamma.",
)

RORPO = replace(
    RDPO_RATIONALE,
    name="rorpo",
    title="RORPO: ORPO with rationales",
    objective=WithRationale(base=Orpo(lam=0.1), gamma_r=1.0),
    anchors={},
    train=RDPO_RATIONALE.train,
    playground={k: v for k, v in RDPO_RATIONALE.playground.items() if k != "objective.beta"},
    sources={**RDPO_RATIONALE.sources, "gamma_r": "authors' code", "lam": "ORPO's"},
    notes="No reference. gamma_r is the paper's gamma.",
)

RSIMPO = replace(
    RDPO_RATIONALE,
    name="rsimpo",
    title="RSimPO: SimPO with rationales",
    objective=WithRationale(base=Simpo(beta=2.0, gamma=1.0), gamma_r=0.1),
    anchors={},
    playground={k: v for k, v in RDPO_RATIONALE.playground.items() if k != "objective.beta"},
    sources={**RDPO_RATIONALE.sources, "gamma": "SimPO's authors: half of beta", "beta": "SimPO's authors"},
    notes="No reference. gamma is SimPO's margin, gamma_r the rationale's weight, the paper's gamma.",
)
