"""Supervised fine-tuning on demonstrations stops improving, and preference labels are not always at hand. SPIN,
self-play fine-tuning (2401.01335), prefers the recorded response to the policy's own by DPO's loss, refitted in
rounds from, and against, the last iterate, until the two cannot be told apart.
"""

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import CODE, OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import TargetBeatsOwn
from equipoise.play.players.recorded import Targets
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit

SPIN = Method(
    name="spin",
    title="Self-Play Fine-Tuning",
    paper="2401.01335",
    confidence="verified in code",
    players=Targets(own=1),
    pairing=TargetBeatsOwn(),
    objective=Dpo(beta=0.1),
    anchors={"reference": START},
    update=Refit(),
    rounds=3,
    train={"batch": 64, "epochs": 3},
    # near the data's distribution the margins' gradient is noise: at a rate of 1e-3 the later rounds leave the grammar
    playground={**TINY, "train.lr": 5e-4, "objective.beta": 0.5, "train.epochs": 2},
    exact={"beta": 0.5},
    sources={
        **of(OURS, "batch parts"),
        **of(CODE, "epochs samples"),
        "beta": "authors' code, which raises it in late rounds",
        "smoothing": "0 is DPO",
        "rounds": "ours; the authors' scripts count to an iteration 3",
    },
    notes="Reads the preferred responses of pairs as its targets; the rejected ones are not used.",
)
