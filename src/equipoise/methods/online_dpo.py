"""Recorded pairs are soon off-policy: they compare responses that the trained policy no longer writes. Online
and iterative DPO sample fresh pairs from the policy, have the oracle label them and apply DPO's logistic loss.

Online DPO keeps the initial policy as reference and takes gradient steps; iterative DPO refits from, and against,
the last iterate. Neither seeks a Nash policy: with a general preference their fixed points are another.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import OURS, SHORT_ROUNDS
from equipoise.methods.tiny import PAIR_ROUNDS, PAIR_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import BestWorst, Pairs
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL, START
from equipoise.play.updates.basic import Descend, Refit

ONLINE_DPO = Method(
    name="online_dpo",
    title="Online DPO",
    paper="2402.04792",
    confidence="recalled",
    players=Self(samples=2),
    pairing=Pairs(labels="bernoulli"),
    objective=Dpo(beta=0.1),
    anchors={"reference": INITIAL},
    update=Descend(rate=1.0),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={**PAIR_STEPS, "objective.beta": 0.1},
    in_theory=(Self(samples=2), Pairs()),
    sources={
        **SHORT_ROUNDS,
        "beta": OURS,
        "smoothing": "0 is DPO",
        "samples": "two responses are compared",
    },
    evidence=("tests/play/test_pairing.py",),
)

ITERATIVE_DPO = replace(
    ONLINE_DPO,
    name="iterative_dpo",
    title="Iterative DPO",
    paper="2312.11456",
    players=Self(samples=8),
    pairing=BestWorst(),
    anchors={"reference": START},
    update=Refit(),
    rounds=3,
    train={"batch": 128, "schedule": "cosine", "warmup": 0.03},
    playground={**PAIR_ROUNDS, "objective.beta": 0.5},
    sources={
        **ONLINE_DPO.sources,
        "samples": "as INPO's, whose baseline it is",
        "rounds": "as INPO's",
        "batch": "as INPO's",
        "schedule": "as INPO's",
        "warmup": "as INPO's",
    },
)
