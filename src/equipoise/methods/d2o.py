"""Harmful responses are easy to collect, good ones to put in their place are not, and pushing down bad
responses alone destroys the policy. D2O, distributional dispreference optimization (2403.03419), contrasts each
dispreferred response with several of the initial policy's own samples taken together.
"""

from equipoise.core.objectives import D2o
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.unpaired import AgainstOwnSamples
from equipoise.play.players.unpaired import DispreferredResponses
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Refit

D2O = Method(
    name="d2o",
    title="Distributional Dispreference Optimization",
    paper="2403.03419",
    confidence="paper's text",
    players=DispreferredResponses(own=11),
    pairing=AgainstOwnSamples(),
    objective=D2o(beta=0.1, alpha=0.1),
    anchors={"harmful": INITIAL, "helpful": INITIAL},
    update=Refit(),
    rounds=1,
    train={"batch": 64, "schedule": "linear", "warmup": 0.1},
    playground={
        **TINY,
        "objective.beta": 0.5,
        "objective.alpha": 0.5,
        "objective.own": 4,
        "train.epochs": 2,
        "train.batch": 64,
    },
    exact={"own": 1},
    sources={
        **of("paper, from a transcription", "own beta alpha"),
        **of(OURS, "schedule warmup batch"),
        "by": "paper, from a transcription: the original model",
        "rounds": "ours: samples once",
    },
    notes="Both references are the original model, as in the paper's experiments. The paper's samples may be "
    "refreshed: with play.rounds above 1 every round draws new ones, from the original model or, with "
    "objective.by=start, from the policy as it stands. The paper filters harmful samples out; here all are kept. "
    "Exact games take one own sample.",
)
