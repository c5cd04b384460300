"""Pair losses fit only the difference of two responses and let both likelihoods fall; cyclic preferences have
no reward to fit. SPPO, self-play preference optimization (2405.00675), approximates multiplicative weights:
each response's log-ratio to the last iterate is regressed on its win rate against that iterate.
"""

from dataclasses import replace

from equipoise.core.objectives import Sppo, SppoHard
from equipoise.games.closed_form import mwu_step
from equipoise.methods.sources import CODE, of
from equipoise.methods.tiny import GROUP_ROUNDS, PAIR_ROUNDS, UNTRUNCATED
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import BestWorst, Pairs, Scored
from equipoise.play.players.sampled import Self
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit

SPPO = Method(
    name="sppo",
    title="Self-Play Preference Optimization",
    paper="2405.00675",
    confidence="verified in code",
    players=Self(samples=5),
    pairing=BestWorst(keep="rates", with_itself=True),
    objective=Sppo(eta=1000.0),
    anchors={"previous": START},
    update=Refit(),
    rounds=3,
    train={"batch": 64, "schedule": "linear", "warmup": 0.1},
    sampling={"temperature": 0.7, "top_p": 0.9},
    playground={**GROUP_ROUNDS, **UNTRUNCATED, "objective.eta": 5.0},
    exact={"eta": 0.5},
    closed_form=lambda game, state, m: mwu_step(game, state.policies[START], eta=m.parameters()["eta"]),
    in_theory=(Self(samples=1), Scored(opponents=1)),
    sources={
        **of(CODE, "samples temperature top_p rounds batch schedule warmup"),
        "eta": "authors' code: beta = 0.001",
    },
    notes="The closed form is multiplicative weights, which the squared loss meets up to O(eta^2).",
)

SPPO_SINGLE = replace(
    SPPO,
    name="sppo_single",
    title="SPPO, the match of the pair as its win rates",
    pairing=BestWorst(keep="match", with_itself=True),
    playground={**PAIR_ROUNDS, **UNTRUNCATED, "objective.eta": 5.0, "play.pairing": "matches"},
    closed_form=None,
    in_theory=(Self(samples=2), Pairs(rewards=True, equal=True)),
    notes="On i.i.d. pairs the rewards average to win rates; on selected pairs, as the paper runs it, they do not.",
)

SPPO_HARD = replace(
    SPPO_SINGLE,
    name="sppo_hard",
    title="SPPO with hard labels",
    pairing=BestWorst(keep="label", with_itself=True),
    objective=SppoHard(eta=1000.0),
    playground={**PAIR_ROUNDS, **UNTRUNCATED, "objective.eta": 5.0, "play.pairing": "matches"},
    in_theory=(Self(samples=2), Pairs(equal=True)),
    notes="On soft labels its gradient is twice that of sppo_single.",
)
