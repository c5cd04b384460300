"""A chosen-rejected label says which response is better and nothing about degrees within one text. SPO,
self-supervised preference optimization (2409.17791), adds a task to a preference loss: classify from the policy's
hidden states how much of a response's key content has been removed. `spo_degree` adds it to DPO, and `NAME+degrees` to
any other method of labelled pairs.

Degrees, pooling, heads and gamma are DERIVED, a choice of this library: no code was released.
"""

from dataclasses import replace

from equipoise.core.auxiliary_heads import DegreeHeads
from equipoise.core.objectives import WithDegrees
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS, of
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import Degraded
from equipoise.play.updates.basic import Refit
from equipoise.play.updates.live_reference import LiveRefit

DEGREES = 4
PAGE = "Six degraded texts are read with each pair. gamma_d is the paper's gamma."


def with_degrees(method: Method) -> Method:
    """SPO's degree task added to a method of labelled pairs that refits: `ipo+degrees`, `simpo+degrees`, ...

    The two whole responses are compared as before; the method's parameters keep their names. Raises ValueError for a
    method without such a loss, or with another update or an auxiliary head of its own.
    """
    loss, update = method.objective, method.update
    if isinstance(update, LiveRefit) and update.network is None:
        update = replace(update, network=DegreeHeads(degrees=DEGREES))
    elif isinstance(update, Refit):
        update = LiveRefit(network=DegreeHeads(degrees=DEGREES))
    else:
        raise ValueError(f"degrees cannot be added to {method.name}: its update is {update.describe()}")
    if loss is None or loss.reads.response_weights:
        raise ValueError(f"degrees cannot be added to {method.name}: it weighs responses at every step")
    return replace(
        method,
        name=f"{method.name}+degrees",
        title=f"{method.title}, with the degrees of SPO",
        confidence="derived",
        pairing=Degraded(base=method.pairing, degrees=DEGREES),
        objective=WithDegrees(base=loss, gamma_d=0.1, degrees=DEGREES),
        update=update,
        closed_form=None,
        in_theory=None,
        playground={**method.playground, "objective.network_rate": 10.0},
        sources={**method.sources, **of(OURS, "gamma_d degrees network_rate")},
        notes=f"{method.notes} {PAGE}".strip(),
    )


SPO_DEGREE = replace(
    with_degrees(DPO),
    name="spo_degree",
    title="Self-supervised Preference Optimization",
    paper="2409.17791",
    notes=f"Not self-play preference optimisation, the method spo. {PAGE} The same task with another loss of pairs "
    "is `NAME+degrees`, such as ipo+degrees or simpo+degrees.",
)
