"""AOT (2406.05882): recorded pairs; margins meet the reference's rank by rank over the batch."""

from dataclasses import replace

from equipoise.core.objectives import Aot
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS
from equipoise.play.unary import PreferredFirst

AOT = replace(
    DPO,
    name="aot",
    title="Alignment via Optimal Transport",
    paper="2406.05882",
    pairing=PreferredFirst(),
    objective=Aot(beta=0.1),
    sources=DPO.sources
    | {"beta": "TRL", "smoothing": "TRL: none unless it is set", "batch": OURS, "warmup": OURS},
    notes="The batch is part of the loss: a larger one sorts finer. A batch of one pair is DPO.",
)
