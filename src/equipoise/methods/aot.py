"""Pair losses such as DPO compare one chosen with one rejected response at a time and leave the distributions
of their rewards free. AOT, alignment via optimal transport (2406.05882), sorts the batch and asks for
first-order stochastic dominance, rank by rank: of the policy's margins over the reference's, or of desirable
over undesirable responses.
"""

from dataclasses import replace

from equipoise.core.objectives import Aot, AotUnpaired
from equipoise.methods.bco import BCO
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS
from equipoise.play.pairings.recorded import PreferredFirst

AOT = replace(
    DPO,
    name="aot",
    title="Alignment via Optimal Transport",
    paper="2406.05882",
    pairing=PreferredFirst(),
    objective=Aot(beta=0.1),
    sources={
        **DPO.sources,
        "beta": "TRL",
        "smoothing": "TRL: none unless it is set",
        "batch": OURS,
        "warmup": OURS,
    },
    notes="The batch is part of the loss: a larger one sorts finer. A batch of one pair is DPO.",
)

AOT_UNPAIRED = replace(
    BCO,
    name="aot_unpaired",
    title="Alignment via Optimal Transport on single responses",
    paper="2406.05882",
    objective=AotUnpaired(beta=0.1),
    sources={
        **{k: v for k, v in BCO.sources.items() if k != "shift"},
        "smoothing": "TRL: none unless it is set",
    },
    notes="The batch is part of the loss: a larger one sorts finer. Both kinds have equal weight, "
    "whatever their numbers.",
)
