"""Preference optimisation usually takes a fine-tuning stage first and a reference model during training. These
losses are supervised fine-tuning on chosen responses with a penalty on rejected ones in the same run, without a
reference: by odds ratio in ORPO (2403.07691), by each one's odds in ASFT (2409.10571), by unlikelihood
(1908.04319); `asft_aligned` (2502.01237) brings the reference back.
"""

from dataclasses import replace

from equipoise.core.objectives import Asft, AsftAligned, Orpo, Unlikelihood
from equipoise.methods.dpo import DPO
from equipoise.methods.tiny import TINY

ORPO = replace(
    DPO,
    name="orpo",
    title="Odds-Ratio Preference Optimization",
    paper="2403.07691",
    objective=Orpo(lam=0.1),
    anchors={},
    playground={**TINY, "objective.lam": 1.0, "train.epochs": 4},
    sources={**DPO.sources, "lam": "a library's (TRL); 0.1 to 0.25 by model, recalled"},
    notes="Meant for a base model: supervised fine-tuning with an additional term. The paper's rate is 8e-6, recalled.",
)

ASFT = replace(
    ORPO,
    name="asft",
    title="Aligned Supervised Fine-Tuning",
    paper="2409.10571",
    confidence="paper's text",
    objective=Asft(lam=1.0),
    playground={**TINY, "objective.lam": 1.0, "train.epochs": 4},
    sources={**DPO.sources, "lam": "ours; not recovered"},
    notes="",
)

UNLIKELIHOOD = replace(
    ORPO,
    name="unlikelihood",
    title="Likelihood of chosen, unlikelihood of rejected responses",
    paper="1908.04319",
    confidence="paper's text",
    objective=Unlikelihood(alpha=1.0),
    playground={**TINY, "objective.alpha": 1.0, "train.epochs": 4},
    sources={**DPO.sources, "alpha": "recalled: 1"},
    notes="Of whole responses, by their mean token probability; the paper's unlikelihood is of single tokens.",
)

ASFT_ALIGNED = replace(
    DPO,
    name="asft_aligned",
    title="ASFT with a temperature and a reference",
    paper="2502.01237",
    confidence="paper's text",
    objective=AsftAligned(beta=0.1),
    playground={**TINY, "objective.beta": 2.0, "train.epochs": 4},
    sources={**DPO.sources, "beta": "ours; the paper tunes it"},
)
