"""RLHF fits a reward model to recorded preference pairs and then runs reinforcement learning against it. DPO,
direct preference optimization (2305.18290), expresses the reward by the policy's own log-ratio to the initial
policy, so that one logistic loss on the pairs does both.
"""

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.players.recorded import Recorded
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Refit

DPO = Method(
    name="dpo",
    title="Direct Preference Optimization",
    paper="2305.18290",
    confidence="verified in code",
    players=Recorded(),
    pairing=AsRecorded(),
    objective=Dpo(beta=0.1),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=1,
    train={"batch": 64, "schedule": "linear", "warmup": 0.1},
    playground={**TINY, "objective.beta": 0.5, "train.epochs": 4},
    sources={
        **of(OURS, "schedule parts"),
        "beta": "DPO's authors' code; 0.1 to 0.5 is usual",
        "smoothing": "0 is DPO",
        "batch": "DPO's authors' code",
        "warmup": "ours; DPO's authors warm up for 150 steps",
        "rounds": "the data are recorded once",
    },
)
