"""SPIN samples all negatives from a frozen iterate between long rounds, so they lag behind the policy. SAPO,
self-augmented preference optimization (2405.20830), makes negatives as it trains: at every optimizer step a segment
of the recorded response is sampled again by a moving average of the policy, and pairs go through a replay buffer.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo, HingeNorm, Orpo
from equipoise.methods.sources import CODE, OURS, of
from equipoise.methods.tiny import MANY_STEPS, UNTRUNCATED
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import TargetBeatsOwn
from equipoise.play.pairings.replay_buffer import Buffered
from equipoise.play.players.recorded import Segments
from equipoise.play.state import AVERAGE, MAGNET
from equipoise.play.updates.basic import Averaged, Descend, Magnetic

AVERAGED = Averaged(base=Descend(rate=1.0), decay=0.5)
PLAYED = {
    **MANY_STEPS,
    **UNTRUNCATED,
    "objective.longest": 3,
    "objective.pairs": 12,
    "objective.size": 360,
    "train.batch": 64,
}
NOTES = (
    "Reads the preferred responses of pairs as its targets; the rejected ones are not used. A round writes for `pairs` "
    "targets, and the average moves once a round: with train.batch at least as large a round is one optimizer step, as "
    "in the authors' code; give both a larger number where a checkpoint for every step is too much. The rate is "
    "constant, as a round has no schedule beyond its own steps; theirs falls linearly over the run. AdamW stands for "
    "RMSprop. Where the old tail depends on the segment before it, the data's distribution is no fixed point (derived; "
    "see the claim sapo_against_spin): stop early. Exact games have responses of one token and no buffer."
)

SAPO = Method(
    name="sapo",
    title="Self-Augmented Preference Optimization",
    paper="2405.20830",
    confidence="verified in code",
    players=Segments(longest=256, pairs=64),
    pairing=Buffered(size=2000),
    objective=Dpo(beta=0.1),
    anchors={"reference": MAGNET},
    update=Magnetic(base=AVERAGED, every=108, to=AVERAGE),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    sampling={"temperature": 0.7, "top_k": 50, "top_p": 0.95},
    playground={**PLAYED, "objective.beta": 0.5, "objective.every": 1},
    exact={"beta": 0.5, "pairs": 0, "every": 1},
    in_theory=(Segments(), TargetBeatsOwn()),
    sources={
        **of(OURS, "rounds schedule warmup"),
        **of(CODE, "beta size longest batch temperature top_k top_p"),
        "rate": "ours; exact games only",
        "smoothing": "0 is DPO",
        "decay": "authors' shipped configuration; 0.992 is its class's default",
        "pairs": "authors' code: every step writes for its own batch",
        "every": "authors' code: the average becomes the reference every 108 steps, about an epoch of their data",
    },
    evidence=("tests/play/test_sapo.py",),
    notes=NOTES,
)

SAPO_HINGE = replace(
    SAPO,
    name="sapo_hinge",
    title="SAPO with the hinge loss",
    objective=HingeNorm(gamma=0.1),
    playground={**PLAYED, "objective.gamma": 0.5, "objective.every": 1},
    exact={"gamma": 0.5, "pairs": 0, "every": 1},
    sources={**SAPO.sources, "gamma": "authors' code, which calls it beta"},
)

SAPO_ORPO = replace(
    SAPO,
    name="sapo_orpo",
    title="SAPO with the odds-ratio loss",
    objective=Orpo(lam=0.05),
    anchors={},
    update=AVERAGED,
    playground={**PLAYED, "objective.lam": 1.0},
    exact={},
    sources={**SAPO.sources, "lam": "authors' configuration for this loss, which calls it beta"},
    notes=f"{NOTES} This form has no reference and reads mean token log-probs. The authors train it at 5e-6, with the "
    "rate falling as the inverse square root of the step; their likelihood loss includes the prompt's tokens.",
)
