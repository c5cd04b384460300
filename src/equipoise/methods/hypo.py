"""Offline DPO controls the KL to the reference only where the recorded pairs have coverage, so mass may move to
unseen responses. HyPO, hybrid preference optimization (2406.01462), adds the reverse KL to the reference,
estimated from the policy's own samples, to DPO on recorded pairs.
"""

from equipoise.core.objectives import Hypo
from equipoise.methods.sources import NOT_RECOVERED, OURS, SHORT_ROUNDS, of
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.players.recorded import Recorded
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Descend

HYPO = Method(
    name="hypo",
    title="Hybrid Preference Optimization",
    paper="2406.01462",
    confidence="derived",
    players=Recorded(own=2, parts=20),
    pairing=AsRecorded(),
    objective=Hypo(),
    anchors={"reference": INITIAL},
    update=Descend(rate=1.0),
    rounds=60,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={**MANY_STEPS, "objective.beta": 0.5, "objective.lam": 0.02, "objective.parts": 12},
    exact={"beta": 0.5, "lam": 0.1, "parts": 1},
    in_theory=(Recorded(own=1), AsRecorded()),
    sources={
        **SHORT_ROUNDS,
        **of(OURS, "beta parts"),
        "lam": NOT_RECOVERED,
        "samples": "the paper's k of leave-one-out; its value was not recovered",
    },
)
