"""Preferences may be cyclic, so that no reward explains them, and estimating a response's expected win rate
needs many oracle queries. INPO, iterative Nash policy optimization (2407.00617), is no-regret self-play towards
the regularised Nash policy whose mirror-descent step is a squared loss on compared pairs; no win rate is
estimated.
"""

from equipoise.core.objectives import Inpo
from equipoise.games.closed_form import inpo_step
from equipoise.methods.sources import PAPER, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Pairs, Tournament
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL, START
from equipoise.play.updates.basic import Refit

INPO = Method(
    name="inpo",
    title="Iterative Nash Policy Optimization",
    paper="2407.00617",
    confidence="paper's text",
    players=Self(samples=8),
    pairing=Tournament(),
    objective=Inpo(eta=0.005, tau=0.005 / 3),
    anchors={"reference": INITIAL, "previous": START},
    update=Refit(),
    rounds=3,
    train={"batch": 128, "schedule": "cosine", "warmup": 0.03},
    playground={
        **TINY,
        "objective.eta": 0.2,
        "objective.tau": 0.05,
        "play.rounds": 6,
        "play.samples": 24,
        "play.pairing": "disjoint",
        "train.epochs": 5,
        "train.eps": 1e-2,
    },
    exact={"eta": 0.5, "tau": 0.1},
    closed_form=lambda game, state, m: inpo_step(
        game, state.policies[START], eta=m.parameters()["eta"], tau=m.parameters()["tau"]
    ),
    kl_weight="tau",
    by_size={
        "eta": lambda size, known: size.tokens and 2 / size.tokens,
        "tau": lambda size, known: known["eta"] / 3,
    },
    in_theory=(Self(samples=2), Pairs()),
    sources={
        **of(PAPER, "rounds samples pairing batch schedule warmup"),
        "eta": "ours: 2/L for recorded responses of L tokens, or samples of at most L, a target margin of L/4 nats. "
        "The paper's 0.005 (from a grid of 0.002 to 0.1; two third-party versions take 0.0075) asks for "
        "100 nats of chat answers of some 400 tokens; a one-word answer that is pushed so far is no longer sampled, "
        "and later rounds have nothing but noise to compare",
        "tau": "paper's text: eta/3",
    },
    evidence=("tests/play/test_pairing.py",),
)
