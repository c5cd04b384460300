"""A ranked list says more than the pairs that can be cut from it. DPO with the Plackett-Luce model (2305.18290)
is the likelihood of the whole ranking; TPO, tree preference optimization (2410.12854), is a weighted ranking
loss on scored lists that weighs tokens by how much a step differs from those of the other responses. TPO's
constants are RECALLED.
"""

from dataclasses import replace

from equipoise.core.objectives import PlackettLuce, Tpo
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.capabilities import StepDifferences
from equipoise.play.needs import LISTS
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.recorded import Recorded
from equipoise.play.players.sampled import Written
from equipoise.play.state import INITIAL
from equipoise.play.updates.live_reference import TokenWeighted

PLACKETT_LUCE = replace(
    DPO,
    players=Recorded(needs=LISTS),
    name="plackett_luce",
    title="DPO of whole rankings (Plackett-Luce)",
    confidence="recalled",
    objective=PlackettLuce(beta=0.1),
    playground={**TINY, "train.lr": 5e-4, "train.batch": 64, "objective.beta": 0.5, "train.epochs": 4},
    in_theory=(Written(by=INITIAL, samples=3), Scored(against=INITIAL)),
    sources={**of(OURS, "schedule parts batch warmup"), "beta": "DPO's authors' code, for pairs"},
    notes="A finite game's lists are three responses of the initial policy, by their win rates against it.",
)

TPO = replace(
    PLACKETT_LUCE,
    name="tpo",
    title="Tree Preference Optimization",
    paper="2410.12854",
    objective=Tpo(beta=0.5, steps=True),
    update=TokenWeighted(by=StepDifferences(mark="")),
    train={"lr": 5e-7, "batch": 32, "schedule": "linear", "warmup": 0.1},
    playground={**TINY, "train.lr": 5e-4, "train.batch": 64, "train.epochs": 4},
    exact={"steps": False},
    sources={
        **of(OURS, "schedule parts batch warmup"),
        "beta": "the released code",
        "lr": "the released code; it takes one list at a time",
        "lambdas": "the paper, recalled",
        "gain": "ours: gains of the paper, 2 to the score, overflow",
        "steps": "the paper, recalled",
    },
    notes="Every token is a step; StepDifferences(mark=...) of a method of one's own cuts at lines. In a finite game a "
    "response is one step of weight 1.",
)
