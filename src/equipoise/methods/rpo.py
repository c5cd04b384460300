"""Under DPO the likelihood of chosen responses often falls along with that of the rejected ones. RPO
(2405.16436) and IRPO (2404.19733) add the negative log-likelihood of the chosen response; Flex-DPO (2406.07327)
weights chosen and rejected log-ratios separately.
"""

from dataclasses import replace

from equipoise.core.objectives import FlexDpo, Irpo, Rpo
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import of
from equipoise.methods.tiny import TINY

RPO = replace(
    DPO,
    name="rpo",
    title="Regularised Preference Optimization",
    paper="2405.16436",
    objective=Rpo(beta=0.01, eta=0.005),
    playground={**TINY, "objective.beta": 0.5, "objective.eta": 0.2, "train.epochs": 4},
    exact={"beta": 0.5, "eta": 0.2},
    train={"batch": 128, "epochs": 1, "schedule": "cosine", "warmup": 0.1},
    sources={
        **DPO.sources,
        **of("authors' code", "eta epochs schedule warmup"),
        "beta": "authors' code; 0.05 for gemma",
        "batch": "authors' code: 8 processes, 8 pairs each, accumulated over 2 passes",
    },
    notes="The authors train 7B models at a rate of 5e-7: zephyr-beta for one epoch, gemma for two at beta 0.05.",
)

IRPO = replace(
    DPO,
    name="irpo",
    title="Iterative Reasoning Preference Optimization, one round",
    paper="2404.19733",
    confidence="recalled",
    objective=Irpo(beta=0.1, alpha=1.0),
    playground={**TINY, "objective.beta": 0.5, "objective.alpha": 0.2, "train.epochs": 4},
    sources={**DPO.sources, "alpha": "recalled: 1, where the paper's alpha and its inverse agree"},
    notes="The paper repeats rounds on reasoning tasks, with pairs of right and wrong answers of its own.",
)

FLEX_DPO = replace(
    DPO,
    name="flex_dpo",
    title="Flex-DPO",
    paper="2406.07327",
    confidence="paper's text",
    objective=FlexDpo(beta_p=0.1, beta_n=0.08, sft=0.0),
    playground={
        **TINY,
        "objective.beta_p": 0.5,
        "objective.beta_n": 0.3,
        "objective.sft": 0.02,
        "train.epochs": 4,
    },
    exact={"beta_p": 0.5, "beta_n": 0.3},
    sources={**DPO.sources, "beta_p": "DPO's", "beta_n": "paper, at second hand", "sft": "ours: off"},
    notes="The paper calls beta adaptive, and its experiments fix beta_p and compare constant values of beta_n, the "
    "best of them near 0.08 (as reviews of it report). A ramp, `objective.beta_n={start: 0.1, end: 0.05, over: "
    "steps}`, moves it. Of the three properties evaluation.jsonl has the drop (rejected_log_ratio), the degradation "
    "(chosen_log_ratio falls as well) and the dispersion (kl, of what the policy writes).",
)
