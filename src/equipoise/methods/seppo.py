"""A diffusion model is aligned with winners alone, without losers and without a reward. SePPO, semi-policy preference
optimization (2410.05255), takes as the opponent a past checkpoint drawn from a pool, and counts that checkpoint's own
sample as a loser only where the checkpoint is the worse model of the winner.
"""

from equipoise.core.objectives import Seppo
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import TargetBeatsOwn
from equipoise.play.players.recorded import Targets
from equipoise.play.state import POOLED
from equipoise.play.updates.pool import Pooled

RECALLED = "recalled"

SEPPO = Method(
    name="seppo",
    title="Semi-Policy Preference Optimization",
    paper="2410.05255",
    confidence="recalled",
    players=Targets(own=1, by=POOLED),
    pairing=TargetBeatsOwn(),
    objective=Seppo(beta=0.1),
    anchors={"reference": POOLED},
    update=Pooled(),
    rounds=7,
    train={"batch": 64, "schedule": "constant", "warmup": 0.1},
    playground={**TINY, "objective.beta": 0.5, "train.lr": 5e-4, "train.epochs": 1, "play.rounds": 4},
    exact={"beta": 0.5},
    sources={
        **of(OURS, "parts batch schedule warmup"),
        "beta": "ours for text; for images Diffusion-DPO's",
        "criterion": "paper's text as public reviews quote it; its orientation is derived",
        "rounds": f"{RECALLED}: 7 checkpoints are kept, one every 30 updates",
    },
    evidence=("tests/core/test_semi_policy.py", "tests/worlds/test_diffusion_methods.py", "seppo_anchor"),
    notes="Reads the preferred responses of pairs as winners; the rejected ones are not used. The optimizer begins "
    "anew in every round. A finite game offers no draw from the pool, so that only sampling worlds play it.",
)
