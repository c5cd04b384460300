"""DPO's logistic loss determines only the margin of a pair, so that both likelihoods may fall, and is one
choice among many. These methods keep all of DPO but the loss: EXO (2402.00856), NCA (2402.05369), BCO on pairs
(2404.04656), APO-zero and APO-down (2408.06266), and DiscoPOP (2406.08414).
"""

from dataclasses import replace

from equipoise.core.objectives import ApoDown, ApoZero, BcoPair, DiscoPop, ExoPair, NcaPair
from equipoise.methods.dpo import DPO

LIBRARY = "a library's (TRL)"
SOURCES = {**DPO.sources, "beta": LIBRARY}

EXO_PAIR = replace(
    DPO,
    name="exo_pair",
    title="Efficient Exact Optimization, on pairs",
    paper="2402.00856",
    objective=ExoPair(beta=0.1, smoothing=0.001),
    sources={**SOURCES, "smoothing": "ours; libraries ask for a number above 0"},
)

NCA_PAIR = replace(
    DPO,
    name="nca_pair",
    title="Noise-Contrastive Alignment, on pairs",
    paper="2402.05369",
    objective=NcaPair(beta=0.1),
    sources=SOURCES,
)

BCO_PAIR = replace(
    DPO,
    name="bco_pair",
    title="Binary Classifier Optimization, on pairs",
    paper="2404.04656",
    objective=BcoPair(beta=0.1),
    sources=SOURCES,
)

APO_ZERO = replace(
    DPO,
    name="apo_zero",
    title="Anchored Preference Optimization, zero",
    paper="2408.06266",
    objective=ApoZero(beta=0.1),
    sources=SOURCES,
    notes="For chosen responses that are better than the policy's own. Not `apo`, a method of self-play.",
)

APO_DOWN = replace(
    APO_ZERO,
    name="apo_down",
    title="Anchored Preference Optimization, down",
    objective=ApoDown(beta=0.1),
    notes="For chosen responses that are worse than the policy's own: it lowers both.",
)

DISCOPOP = replace(
    DPO,
    name="discopop",
    title="DiscoPOP",
    paper="2406.08414",
    objective=DiscoPop(beta=0.1, temperature=0.05),
    sources={**SOURCES, "temperature": "authors' code and TRL"},
)
