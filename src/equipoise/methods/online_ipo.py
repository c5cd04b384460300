"""Offline IPO learns a best response to the policy that wrote the data, not an equilibrium. Online IPO and
IPO-MD (2403.08635) apply the IPO loss to fresh pairs, from the policy itself or from its mixture with the
reference; the fixed point of online IPO is the regularised Nash policy.

They take gradient steps: refitting to the end would be best-response dynamics.
"""

from dataclasses import replace

from equipoise.core.objectives import Ipo
from equipoise.methods.sources import OURS, PAPER, of
from equipoise.methods.tiny import PAIR_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.players.sampled import Mixed, Self
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Descend

ONLINE_IPO = Method(
    name="online_ipo",
    title="Online IPO",
    paper="2403.08635",
    confidence="paper's text",
    players=Self(samples=2),
    pairing=Pairs(labels="bernoulli"),
    objective=Ipo(tau=1.0),
    anchors={"reference": INITIAL},
    update=Descend(rate=0.01),
    rounds=100,
    train={"batch": 32, "schedule": "constant", "warmup": 0.0},
    playground={**PAIR_STEPS, "train.eps": 1e-2, "objective.tau": 0.05},
    exact={"tau": 0.1},
    in_theory=(Self(samples=2), Pairs()),
    kl_weight="tau",
    sources={
        **of(OURS, "rounds schedule warmup"),
        **of(PAPER, "tau samples batch"),
        "rate": "ours; exact games only",
    },
)

IPO_MD = replace(
    ONLINE_IPO,
    name="ipo_md",
    title="IPO-MD",
    players=Mixed(samples=2, mixture=0.125),
    in_theory=(Mixed(samples=2), Pairs()),
    sources={
        **ONLINE_IPO.sources,
        "mixture": PAPER,
    },
)
