"""DPO holds a reference model in memory, and its implicit reward is not the length-normalised likelihood by
which responses are generated. These losses on recorded pairs drop the reference, average over tokens, or both:
SimPO (2405.14734), AlphaPO (2501.03884), CPO (2401.08417), DPO without a reference, and DPO on token means
(2411.15124), which keeps it.
"""

from dataclasses import replace

from equipoise.core.objectives import AlphaPo, Cpo, CpoSimpo, DpoNorm, ReferenceFreeDpo, Simpo
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS
from equipoise.methods.tiny import TINY

SIMPO = replace(
    DPO,
    name="simpo",
    title="Simple Preference Optimization",
    paper="2405.14734",
    objective=Simpo(beta=2.0, gamma=1.0),
    anchors={},
    train={"batch": 128, "schedule": "cosine", "warmup": 0.1},
    playground={**TINY, "objective.beta": 4.0, "objective.gamma": 0.5, "train.epochs": 4},
    sources={
        **DPO.sources,
        "beta": "authors' code; 2 to 10",
        "gamma": "authors' code: a ratio gamma/beta of 0.5; 0.3 to 0.5 to start with",
        "batch": "authors' code",
        "schedule": "authors' code",
        "warmup": OURS,
    },
    notes="The authors' code sets gamma/beta, here gamma itself is set: change it with beta. They train 7B models for "
    "one epoch at rates of 3e-7 to 1e-6; without a reference the rate decides how far the policy goes.",
)

CPO_SIMPO = replace(
    SIMPO,
    name="cpo_simpo",
    title="SimPO with a likelihood loss",
    objective=CpoSimpo(beta=2.0, gamma=1.0, alpha=1.0),
    playground={**SIMPO.playground, "objective.alpha": 0.2},
    sources={**SIMPO.sources, "alpha": "a library's (TRL)"},
    notes="gamma is the paper's, not the ratio gamma/beta.",
)

ALPHA_PO = replace(
    SIMPO,
    name="alpha_po",
    title="AlphaPO",
    paper="2501.03884",
    confidence="recalled",
    objective=AlphaPo(beta=2.5, gamma=0.25, alpha=0.25),
    playground={**SIMPO.playground, "objective.gamma": 0.25, "objective.alpha": 0.25},
    sources={**SIMPO.sources, **dict.fromkeys(("beta", "gamma", "alpha"), "recalled; they differ by model")},
    notes="gamma is the paper's, not the ratio gamma/beta.",
)

CPO = replace(
    DPO,
    name="cpo",
    title="Contrastive Preference Optimization",
    paper="2401.08417",
    objective=Cpo(beta=0.1, alpha=1.0),
    anchors={},
    playground={**TINY, "objective.beta": 0.5, "objective.alpha": 0.2, "train.epochs": 4},
    sources={**DPO.sources, "beta": "a library's (TRL)", "alpha": "a library's (TRL)"},
)

DPO_REFERENCE_FREE = replace(
    DPO,
    name="dpo_reference_free",
    title="DPO without a reference",
    objective=ReferenceFreeDpo(beta=0.1),
    anchors={},
    sources={**DPO.sources, "alpha": "0: no likelihood loss"},
    notes="Nothing ties the policy to where it began; of two responses the shorter one starts ahead.",
)

DPO_NORM = replace(
    DPO,
    name="dpo_norm",
    title="Length-normalised DPO",
    paper="2411.15124",
    objective=DpoNorm(beta=5.0),
    playground={**TINY, "objective.beta": 4.0, "train.epochs": 4},
    sources={**DPO.sources, "beta": "recalled: Tulu 3's"},
)
