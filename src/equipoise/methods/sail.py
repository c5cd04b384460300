"""Online DPO differentiates its loss as if the responses did not depend on the policy that wrote them. SAIL
(2406.15567) treats online alignment as a bilevel problem and adds the gradient through the sampling
distribution, and through the preference where the policy labels itself. The designs are RECALLED.

The letters say where prompt, responses and preference come from: D the data, P the policy, R a reward or oracle.
"""

from dataclasses import replace

from equipoise.core.objectives import Sail
from equipoise.methods.sources import NOT_RECOVERED, OURS, SHORT_ROUNDS
from equipoise.methods.tiny import MANY_STEPS, PAIR_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.players.recorded import Recorded
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Descend, WithRecorded

# with the steps on recorded pairs a round moves several times as far as without; 40 rounds of them leave the grammar
FEW_ROUNDS = {"play.rounds": 20, "train.eps": 1e-2, "evaluate.every": 5}

SAIL = Method(
    name="sail",
    title="SAIL-DPR: own responses, an oracle's labels",
    paper="2406.15567",
    confidence="derived",
    players=Self(samples=2),
    pairing=Pairs(labels="bernoulli", equal=True),
    objective=Sail(beta=0.1, generation=1.0, preference=0.0),
    anchors={"reference": INITIAL},
    update=WithRecorded(base=Descend(rate=0.1), offline=1.0),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={
        **PAIR_STEPS,
        **FEW_ROUNDS,
        "objective.beta": 0.5,
        "objective.generation": 0.1,
        "play.pairing": "method",
    },
    exact={"beta": 0.5, "generation": 0.1, "parts": 1},
    in_theory=(Self(samples=2), Pairs(equal=True)),
    sources={
        **SHORT_ROUNDS,
        "beta": OURS,
        "generation": "1 is the exact gradient; the paper's coefficient was not recovered",
        "preference": "the design: an oracle labels",
        "samples": "two responses are compared",
        "offline": NOT_RECOVERED,
        "parts": OURS,
    },
    notes="As in the paper each design is mixed with offline DPO batches, in a proportion not recovered: each round "
    "ends with steps on recorded pairs, as large as its own. offline=0 leaves them out and needs no pairs. The "
    "score-function term has a baseline of ours, which leaves its expectation as it is.",
)

SAIL_DPP = replace(
    SAIL,
    name="sail_dpp",
    title="SAIL-DPP: own responses, own labels",
    pairing=Pairs(labels="own", equal=True),
    objective=Sail(beta=0.1, generation=1.0, preference=1.0),
    playground={
        **PAIR_STEPS,
        **FEW_ROUNDS,
        "objective.beta": 0.5,
        "objective.generation": 0.1,
        "play.pairing": "method",
    },
    in_theory=(Self(samples=2), Pairs(labels="own", equal=True)),
    sources={
        **SAIL.sources,
        "preference": "1 is the exact gradient; the paper's coefficient was not recovered",
    },
    notes="From the reference itself every margin is 0, and without the steps on recorded pairs nothing moves.",
)

SAIL_DDP = replace(
    SAIL,
    name="sail_ddp",
    title="SAIL-DDP: the data's responses, own labels",
    players=Recorded(parts=10),
    pairing=AsRecorded(),
    objective=Sail(beta=0.1, generation=0.0, preference=1.0),
    playground={**MANY_STEPS, **FEW_ROUNDS, "objective.beta": 0.5},
    exact={"beta": 0.5, "generation": 0.0, "parts": 1},
    in_theory=(Recorded(), AsRecorded()),
    sources={
        **SAIL.sources,
        "generation": "the design: recorded responses",
        "preference": "1 is the exact gradient; the paper's coefficient was not recovered",
    },
    status="experimental",
    notes="Each round takes steps on the labels that it gives itself, then on those of the data (DPO). With offline=0 "
    "nothing moves from the reference, where every margin is 0.",
)
