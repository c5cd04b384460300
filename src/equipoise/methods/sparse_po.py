"""TDPO regularises and rewards every token equally, though few tokens carry a preference. SparsePO (2410.05102)
multiplies token-level log-ratios and divergences by sparse masks, either learned jointly with the policy or
computed from the reference's activations (MaPO).
"""

from dataclasses import replace

from equipoise.core.auxiliary_heads import SparseMasks
from equipoise.core.objectives import SparsePo
from equipoise.methods.sources import OURS, of
from equipoise.methods.tdpo import TDPO1
from equipoise.play.capabilities import Activations
from equipoise.play.updates.live_reference import LiveRefit, TokenWeighted

SPARSE_PO = replace(
    TDPO1,
    name="sparse_po",
    title="SparsePO, one mask for rewards and divergences",
    paper="2410.05102",
    confidence="verified in code",
    objective=SparsePo(beta=0.1, l1_u=0.0005, l1_d=0.0005),
    update=LiveRefit(network=SparseMasks(common=True)),
    train={"lr": 5e-7, "batch": 128, "epochs": 3, "schedule": "linear", "warmup": 0.1},
    playground={**TDPO1.playground, "objective.network_rate": 10.0},
    sources={
        **of(OURS, "schedule warmup parts network_rate"),
        "beta": "authors' code, for HH",
        "l1_u": "authors' code: 0.001, half of it on each of two equal masks",
        "l1_d": "as l1_u",
        "lr": "authors' code, for HH",
        "batch": "authors' code, for HH",
        "epochs": "authors' code, for HH",
    },
    notes="The mask is a small network on the reference's hidden states, trained with the policy and left behind when "
    "it samples. Each of the two equal masks has half of the norm's weight.",
)

SPARSE_PO_INDEPENDENT = replace(
    SPARSE_PO,
    name="sparse_po_independent",
    title="SparsePO, a mask for rewards and one for divergences",
    objective=SparsePo(beta=0.1, l1_u=0.001, l1_d=0.001),
    update=LiveRefit(network=SparseMasks(common=False)),
    notes="Two small networks on the reference's hidden states, trained with the policy and left behind.",
)

MAPO = replace(
    SPARSE_PO,
    name="mapo",
    title="SparsePO with masks read off the reference's activations",
    objective=SparsePo(beta=0.1, l1_u=0.0, l1_d=0.0),
    update=TokenWeighted(base=LiveRefit(), by=Activations()),
    train={**SPARSE_PO.train, "lr": 1e-6},
    playground=TDPO1.playground,
    notes="The masks are constants of the data and the reference: computed once, kept like anchors.",
)
