"""No-regret self-play converges to a Nash policy slowly, or only on average over its iterates. ONPO, optimistic
Nash policy optimization (2502.16852), is optimistic mirror descent: each round's data are fitted twice, and the
second fit predicts the next opponent by the present one. It seeks the plain Nash policy.
"""

from equipoise.core.objectives import Onpo
from equipoise.games.closed_form import mirror_step
from equipoise.methods.sources import NOT_RECOVERED, of
from equipoise.methods.tiny import PAIR_ROUNDS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.players.sampled import Self
from equipoise.play.state import LAZY, START
from equipoise.play.updates.basic import Optimistic

ONPO = Method(
    name="onpo",
    title="Optimistic Nash Policy Optimization",
    paper="2502.16852",
    confidence="paper's text",
    players=Self(samples=8),
    pairing=Pairs(labels="bernoulli"),
    objective=Onpo(eta=200.0),
    anchors={"previous": LAZY},
    update=Optimistic(),
    rounds=3,
    train={"batch": 128},
    playground={**PAIR_ROUNDS, "objective.eta": 2.5, "train.eps": 1e-2, "train.epochs": 4},
    exact={"eta": 0.5},
    closed_form=lambda game, state, m: mirror_step(
        state.policies[LAZY], game.win(state.policies[START]), step=m.parameters()["eta"]
    ),
    in_theory=(Self(samples=2), Pairs()),
    sources={
        **of(NOT_RECOVERED, "samples rounds batch"),
        "eta": "ours: the inverse of INPO's; the paper's was not recovered",
    },
    evidence=("tests/play/test_updates.py",),
    notes="The paper's hyperparameters were not recovered; eta is the inverse of INPO's.",
)
