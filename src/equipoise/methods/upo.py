"""Self-labelled or judged pairs of the policy's own responses are noisy, and iterating on them accumulates
errors. UPO, uncertainty-enhanced preference optimization (2409.11212), estimates with dropout how certain a
reward estimator is of each label, and weighs and smooths pairs accordingly.
"""

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import NOT_RECOVERED, OURS, PAPER, of
from equipoise.methods.tiny import PAIR_ROUNDS
from equipoise.play.method import Method
from equipoise.play.pairings.confidence_weighted import ConfidenceWeighted
from equipoise.play.players.sampled import Self
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit

UPO = Method(
    name="upo",
    title="Uncertainty-enhanced Preference Optimization",
    paper="2409.11212",
    confidence="derived",
    players=Self(samples=4),
    pairing=ConfidenceWeighted(mu=1.0, passes=10),
    objective=Dpo(beta=0.1),
    anchors={"reference": START},
    update=Refit(),
    rounds=3,
    train={"batch": 64},
    playground={**PAIR_ROUNDS, "play.samples": 4, "play.pairing": "method", "objective.beta": 0.5},
    exact={"beta": 0.5},
    in_theory=(Self(samples=2), ConfidenceWeighted()),
    sources={
        **of(NOT_RECOVERED, "beta rounds"),
        **of(PAPER, "passes"),
        "samples": "paper's text: four or more",
        "mu": "ours: 1",
        "dropout": OURS,
        "estimator": OURS,
        "smoothing": "0: the soft label takes its place",
        "pairing": "paper's text; the smoothing is ours, see there",
        "batch": OURS,
    },
    evidence=("tests/play/test_confidence_weighted.py",),
    notes="The paper's smoothing flips or erases every label as it is printed; what stands here is what it sets out to "
    "do. Its likelihood loss of the better response is left out. The estimator is a small reward on the initial "
    "policy's hidden states, where the paper's is a language model of its own with dropout: that is `estimator=oracle` "
    "with an oracle of kind mc_dropout.",
)
