"""Recorded pairs are off-policy: DPO spends as much on responses that the policy would never write. WPO,
weighted preference optimization (2406.11827), weights each pair by the policy's own probability of its
responses, to simulate on-policy data.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo, Wpo
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import CODE, OURS, of

WPO = replace(
    DPO,
    name="wpo",
    title="Weighted Preference Optimization",
    paper="2406.11827",
    objective=Wpo(base=Dpo(beta=0.01)),
    train={"lr": 5e-7, "batch": 128, "schedule": "cosine", "warmup": 0.1},
    sources={
        **of(CODE, "beta lr schedule warmup"),
        **of(OURS, "parts"),
        "smoothing": "0 is DPO",
        "batch": "ours; the authors' configuration has 16 for each GPU",
        "rounds": "the data are recorded once",
    },
    notes="The weight of a response is computed again in every step, from the policy as it is: one more product with "
    "the head, without a gradient. The authors also mix in pairs of the policy's own responses; here pairs "
    "are recorded.",
)
