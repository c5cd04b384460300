"""A reward model cannot express preferences that are not transitive, and self-play on a general preference is
usually unstable reinforcement learning. DNO, direct Nash optimization (2404.03715), makes each round a
regression: soft cross-entropy towards pi_t exp(P(y > pi_t)/eta), the step of self-play; eta is an INVERSE step.
"""

from equipoise.core.objectives import Dno
from equipoise.games.closed_form import dno_step
from equipoise.methods.sources import PAPER
from equipoise.methods.tiny import GROUP_ROUNDS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.sampled import Self
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit

DNO = Method(
    name="dno",
    title="Direct Nash Optimization",
    paper="2404.03715",
    confidence="paper's text",
    players=Self(samples=5),
    pairing=Scored(),
    objective=Dno(eta=0.1),
    anchors={"previous": START},
    update=Refit(),
    rounds=3,
    train={"batch": 64},
    playground={**GROUP_ROUNDS, "objective.eta": 0.2, "train.eps": 1e-2, "play.pairing": "method"},
    exact={"eta": 0.5},
    closed_form=lambda game, state, m: dno_step(game, state.policies[START], eta=m.parameters()["eta"]),
    in_theory=(Self(samples=2), Scored()),
    sources={
        "eta": "paper's text, for DNO-Prct: 0.1 or 0.05",
        "samples": PAPER,
        "rounds": "paper's text, for DNO-Prct",
        "batch": "paper's text, for DNO-Prct",
    },
)
