"""The logistic loss of DPO never stops widening a margin. A hinge loss on recorded pairs is zero beyond a fixed
margin: SLiC-HF, sequence likelihood calibration (2305.10425), on log-probs with a fine-tuning term; and the two
forms of RSO's paper (2309.06657), on log-probs or on log-ratios, here on the pairs as recorded.
"""

from dataclasses import replace

from equipoise.core.objectives import Hinge, HingeNorm, Slic
from equipoise.methods.dpo import DPO
from equipoise.methods.tiny import TINY

SLIC = replace(
    DPO,
    name="slic",
    title="Sequence Likelihood Calibration",
    paper="2305.10425",
    objective=Slic(delta=1.0, lam=0.1),
    anchors={},
    playground={**TINY, "objective.delta": 2.0, "objective.lam": 0.1, "train.epochs": 4},
    sources={**DPO.sources, "delta": "a library's (HALOs)", "lam": "a library's (HALOs)"},
)

HINGE = replace(
    DPO,
    name="hinge",
    title="Hinge loss without a reference",
    paper="2309.06657",
    confidence="paper's text",
    objective=Hinge(gamma=0.05),
    anchors={},
    playground={**TINY, "objective.gamma": 0.5, "train.epochs": 4},
    sources={**DPO.sources, "gamma": "paper's text"},
    notes="The paper shows reward hacking with it: the proxy rises and quality falls.",
)

HINGE_NORM = replace(
    HINGE,
    name="hinge_norm",
    title="Hinge loss on log-ratios",
    confidence="verified in code",
    objective=HingeNorm(gamma=0.05),
    anchors=DPO.anchors,
    notes="",
)
