"""RLHF without a reward model usually assumes that preferences have one form, Bradley-Terry, and
back-propagates through the policy. ZPG and its block-coordinate form ZBCPG (2409.17401) estimate the policy
gradient from comparisons alone: the policy meets a randomly perturbed copy of itself and moves along the
perturbation by how often that wins.
"""

from dataclasses import replace

from equipoise.methods.sources import NOT_RECOVERED, OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.votes import Votes
from equipoise.play.players.perturbed import PerturbedPlayer
from equipoise.play.updates.zeroth_order import ZerothOrder

ZPG = Method(
    name="zpg",
    title="Zeroth-order policy gradient",
    paper="2409.17401",
    confidence="recalled",
    players=PerturbedPlayer(samples=4, mu=3.0),
    pairing=Votes(votes=5),
    objective=None,
    anchors={},
    update=ZerothOrder(alpha=4e-4, mu=3.0),
    rounds=100,
    playground={**TINY, "play.rounds": 90, "evaluate.every": 30},
    exact={"alpha": 0.5, "mu": 0.1, "trim": 1e-6, "votes": 0},
    in_theory=(PerturbedPlayer(samples=1), Votes()),
    sources={
        **of(OURS, "samples rounds"),
        **of(NOT_RECOVERED, "alpha mu trim votes"),
        "block": "0 is ZPG",
        "link": "Bradley-Terry, as in the paper's example",
    },
    evidence=("tests/play/test_zeroth_order.py",),
    status="experimental",
    notes="D is a difference of values only where a reward explains the comparisons. A round's gain shrinks with the "
    "number of trained weights, and a step too long ends the run: nothing pulls back."
    " Experimental: on the playground mass leaves the grammar on four of four fresh seeds (20 to 100 %).",
)

ZBCPG = replace(
    ZPG,
    name="zbcpg",
    status="stable",
    notes="D is a difference of values only where a reward explains the comparisons. A round's gain shrinks with the "
    "number of trained weights, and a step too long ends the run: nothing pulls back.",
    title="Zeroth-order block-coordinate policy gradient",
    players=PerturbedPlayer(samples=4, mu=3.0, block=1000),
    update=ZerothOrder(alpha=2e-4, mu=3.0, block=1000),
    exact={**ZPG.exact, "block": 1},
    in_theory=(PerturbedPlayer(samples=1, block=1), Votes()),
    sources={
        **ZPG.sources,
        **of(NOT_RECOVERED, "alpha block"),
    },
)
