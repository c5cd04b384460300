"""Maximising win rates with PPO takes a critic and clipping that short on-policy updates hardly need. REINFORCE
and RLOO (2402.14740), with a leave-one-out baseline, are plain policy gradients on the win rate against the
initial policy; SPO, self-play preference optimization (2401.04056), takes the win rate against the policy's own
samples and so plays for the minimax winner.
"""

from dataclasses import replace

from equipoise.core.objectives import Reinforce, Rloo
from equipoise.games.closed_form import mwu_step
from equipoise.methods.sources import OURS, SHORT_ROUNDS, of
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL, START
from equipoise.play.updates.basic import Descend

RLOO = Method(
    name="rloo",
    title="REINFORCE with a leave-one-out baseline",
    paper="2402.14740",
    confidence="recalled",
    players=Self(samples=4),
    pairing=Scored(against=INITIAL, opponents=2),
    objective=Rloo(tau=0.05),
    anchors={"reference": INITIAL},
    update=Descend(rate=0.1),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={**MANY_STEPS, "objective.tau": 0.05, "play.samples": 8},
    exact={"tau": 0.1},
    in_theory=(Self(samples=2), Scored(against=INITIAL)),
    sources={
        **SHORT_ROUNDS,
        **of(OURS, "tau samples"),
    },
    notes="The reward is the win rate against the initial policy, which is fixed: reinforcement learning, not a game.",
)

REINFORCE = replace(
    RLOO,
    name="reinforce",
    title="REINFORCE",
    objective=Reinforce(tau=0.05),
    in_theory=(Self(samples=1), Scored(against=INITIAL, opponents=1)),
)

SPO = replace(
    REINFORCE,
    name="spo",
    title="Self-Play Preference Optimization (minimax winner)",
    paper="2401.04056",
    pairing=Scored(),
    objective=Reinforce(tau=0.0),
    exact={"tau": 0.0},
    playground={**MANY_STEPS, "play.samples": 8, "objective.tau": 0.0},
    closed_form=lambda game, state, m: mwu_step(game, state.policies[START], eta=m.parameters()["rate"]),
    in_theory=(Self(samples=1), Scored(opponents=1)),
    sources={
        **REINFORCE.sources,
        "tau": "paper's text: no regulariser",
        "rate": "ours; exact games only",
    },
    notes="Any no-regret learner will do in theory; the closed form is multiplicative weights with step `rate`.",
)
