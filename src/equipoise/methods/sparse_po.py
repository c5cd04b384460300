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

DROPOUT = (
    "The authors drop a tenth of the masks' outputs at random; here they are kept, so that the scores of a step do not "
    "depend on draws and a resumed run repeats them. Every mask starts at 1, where the loss is TDPO1's, and not at "
    "random, where most tokens of a model of few layers start with a mask of 0 and no gradient."
)

SPARSE_PO = replace(
    TDPO1,
    name="sparse_po",
    title="SparsePO, one mask for rewards and divergences",
    paper="2410.05102",
    confidence="verified in code",
    objective=SparsePo(beta=0.1, l1_u=0.0005, l1_d=0.0005),
    update=LiveRefit(network=SparseMasks(common=True)),
    train={"lr": 5e-7, "batch": 128, "epochs": 3, "schedule": "cosine", "warmup": 0.1},
    playground={**TDPO1.playground, "objective.network_rate": 10.0},
    sources={
        **of(OURS, "parts network_rate"),
        **of("authors' code, for HH", "beta lr batch epochs schedule warmup"),
        "l1_u": "authors' code, for HH: 0.001, half of it on each of two equal masks",
        "l1_d": "as l1_u",
    },
    notes="The mask is a small network on the reference's hidden states, trained with the policy and left behind when "
    "it samples. Each of the two equal masks has half of the norm's weight. " + DROPOUT,
)

SPARSE_PO_INDEPENDENT = replace(
    SPARSE_PO,
    name="sparse_po_independent",
    title="SparsePO, a mask for rewards and one for divergences",
    objective=SparsePo(beta=0.1, l1_u=0.0, l1_d=0.0),
    update=LiveRefit(network=SparseMasks(common=False)),
    sources={
        **SPARSE_PO.sources,
        **of("authors' code, for HH: none, their default too", "l1_u l1_d"),
    },
    notes="Two small networks on the reference's hidden states, trained with the policy and left behind. "
    + DROPOUT,
)

MAPO = replace(
    SPARSE_PO,
    name="mapo",
    title="SparsePO with masks read off the reference's activations",
    objective=SparsePo(beta=0.1, l1_u=0.0, l1_d=0.0),
    update=TokenWeighted(base=LiveRefit(), by=Activations()),
    train={**SPARSE_PO.train, "lr": 1e-6},
    playground=TDPO1.playground,
    sources={
        **SPARSE_PO.sources,
        **of("authors' code: its masks have no norms", "l1_u l1_d"),
        "lr": "authors' code, for HH",
    },
    notes="The masks are constants of the data and the reference: computed once, kept like anchors.",
)
