"""A chosen-rejected label says which response is better and nothing about degrees within one text. SPO,
self-supervised preference optimization (2409.17791), adds a task to DPO: classify from the policy's hidden
states how much of a response's key content has been removed.

Degrees, pooling, heads and gamma are DERIVED, a choice of this library: no code was released.
"""

from dataclasses import replace

from equipoise.core.auxiliary_heads import DegreeHeads
from equipoise.core.objectives import WithDegrees
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS, of
from equipoise.play.pairings.recorded import Degraded
from equipoise.play.updates.live_reference import LiveRefit

SPO_DEGREE = replace(
    DPO,
    name="spo_degree",
    title="Self-supervised Preference Optimization",
    paper="2409.17791",
    confidence="derived",
    pairing=Degraded(degrees=4),
    objective=WithDegrees(gamma_d=0.1, degrees=4),
    update=LiveRefit(network=DegreeHeads(degrees=4)),
    playground={**DPO.playground, "objective.network_rate": 10.0},
    sources={**DPO.sources, **of(OURS, "gamma_d degrees network_rate")},
    notes="Not self-play preference optimisation, the method spo. Six degraded texts are read with each pair. "
    "gamma_d is the paper's gamma.",
)
