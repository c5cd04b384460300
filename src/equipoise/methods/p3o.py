"""PPO for language models is sensitive to a reward's offset per prompt, which comparisons leave undetermined,
and needs a critic. P3O, pairwise proximal policy optimization (2310.00212), follows reward differences of two
responses to one prompt with a clipped importance ratio. Clipping is DERIVED.
"""

from equipoise.core.objectives import P3o
from equipoise.methods.sources import OURS, SECOND_HAND, SHORT_ROUNDS
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL, START
from equipoise.play.updates.basic import Descend

P3O = Method(
    name="p3o",
    title="Pairwise Proximal Policy Optimization",
    paper="2310.00212",
    confidence="derived",
    players=Self(samples=2),
    pairing=Scored(against=INITIAL, opponents=2),
    objective=P3o(joint=False),
    anchors={"reference": INITIAL, "previous": START},
    update=Descend(rate=0.1),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0, "epochs": 2},
    playground={**MANY_STEPS, "objective.tau": 0.05, "play.samples": 8, "train.epochs": 2},
    exact={"tau": 0.1},
    in_theory=(Self(samples=2), Scored(against=INITIAL)),
    sources={
        **SHORT_ROUNDS,
        "tau": OURS,
        "clip": SECOND_HAND,
        "joint": "ours; the paper has both, see the notes",
        "epochs": "ours; several in the paper",
        "samples": "paper's text: pairs",
    },
    notes="The paper has two clippings, of the joint ratio (joint=true) and of separate ones, the default. The joint "
    "clip leaves the common drift of both log-probs free: runs with two samples a prompt left the grammar. "
    "The reward is the win rate against the initial policy; `play.pairing=reward` takes the oracle's score.",
)
