"""SPIN samples all negatives from a frozen iterate between long rounds, so they lag behind the policy. SAPO,
self-augmented preference optimization (2405.20830), makes negatives as it trains: a segment of the recorded
response is sampled again by a moving average of the policy, which is also the reference, and pairs go through a
replay buffer.
"""

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import CODE, OURS, SHORT_ROUNDS, of
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import TargetBeatsOwn
from equipoise.play.pairings.replay_buffer import Buffered
from equipoise.play.players.recorded import Segments
from equipoise.play.state import AVERAGE
from equipoise.play.updates.basic import Averaged, Descend

SAPO = Method(
    name="sapo",
    title="Self-Augmented Preference Optimization",
    paper="2405.20830",
    confidence="verified in code",
    players=Segments(longest=256, parts=25),
    pairing=Buffered(size=2000),
    objective=Dpo(beta=0.1),
    anchors={"reference": AVERAGE},
    update=Averaged(base=Descend(rate=1.0), decay=0.5),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={
        **MANY_STEPS,
        "objective.beta": 0.5,
        "objective.longest": 3,
        "objective.parts": 50,
        "objective.size": 360,
        "train.batch": 64,
    },
    exact={"beta": 0.5, "parts": 1},
    in_theory=(Segments(), TargetBeatsOwn()),
    sources={
        **SHORT_ROUNDS,
        **of(CODE, "beta size longest"),
        "smoothing": "0 is DPO",
        "decay": "authors' shipped configuration; 0.992 is its class's default",
        "parts": OURS,
    },
    evidence=("tests/play/test_sapo.py",),
    notes="Reads the preferred responses of pairs as its targets; the rejected ones are not used. A round writes for "
    "one of `parts` parts of the data, and the average moves once a round: with train.batch at least that many pairs a "
    "round is the paper's optimizer step; with fewer the average and the samples stand still for several steps. "
    "AdamW stands for RMSprop. The paper samples at temperature 0.7, top_k 50 and top_p 0.95. The hinge and the "
    "odds-ratio form of the loss are not here. Where the old tail depends on the segment before it, the data's "
    "distribution is no fixed point (derived; see the claim sapo_against_spin): stop early. Exact games have responses "
    "of one token and no buffer.",
)
