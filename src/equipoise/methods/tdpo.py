"""DPO controls the KL to the reference for whole responses only, and rejected responses drift from it token by
token. TDPO, token-level DPO (2404.11999), adds the sequential forward KL of each token's distribution to the
margin on recorded pairs.
"""

from dataclasses import replace

from equipoise.core.objectives import Tdpo1, Tdpo2
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import CODE, of
from equipoise.play.updates.live_reference import LiveRefit

TDPO1 = replace(
    DPO,
    name="tdpo1",
    title="Token-level DPO, both divergences trained",
    paper="2404.11999",
    confidence="verified in code",
    objective=Tdpo1(beta=0.1),
    update=LiveRefit(),
    sources={
        **DPO.sources,
        **of(CODE, "beta alpha batch"),
        "still": "authors' code: off for TDPO1, on for TDPO2",
    },
    notes="The reference is a second model in memory while the policy is trained.",
)

TDPO2 = replace(
    TDPO1,
    name="tdpo2",
    title="Token-level DPO, the rejected response's divergence trained",
    objective=Tdpo2(beta=0.1, alpha=0.5),
)
