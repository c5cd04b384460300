"""Online DPO learns only about what its policy already writes and explores by chance. XPO (2405.21046) and
online VPO (2405.19320) add an optimism bonus to DPO on the run's growing data, which rewards leaving the
reference; offline, VPO's sign is reversed and it is pessimistic, rewarded for staying at the data.
"""

from dataclasses import replace

from equipoise.core.objectives import Vpo, Xpo
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import NOT_RECOVERED, OURS, SECOND_HAND, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import WithChosen
from equipoise.play.pairings.replay_buffer import Replayed
from equipoise.play.pairings.sampled import WithThird
from equipoise.play.players.sampled import Several
from equipoise.play.schedules import ByRound
from equipoise.play.state import INITIAL, START
from equipoise.play.updates.basic import Refit

XPO = Method(
    name="xpo",
    title="Exploratory Preference Optimization",
    paper="2405.21046",
    confidence="verified in code",
    players=Several(by=((START, 1), (INITIAL, 1))),
    pairing=Replayed(base=WithThird(), shares=None),
    objective=Xpo(beta=0.1, alpha=1e-5),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=3,
    schedules={"alpha": ByRound((1e-5, 5e-6, 0.0))},
    train={"batch": 64},
    playground={
        **TINY,
        "objective.beta": 0.5,
        "objective.alpha": [0.005, 0.0025, 0.001, 0.0],
        "play.rounds": 4,
        "play.samples": 8,
        "train.eps": 1e-2,
    },
    exact={"beta": 0.5, "alpha": 0.01},
    sources={
        **of(SECOND_HAND, "beta rounds"),
        "alpha": "paper, at second hand, one for each of its three rounds; TRL's list has the first alone",
        "samples": "paper's text: one by the policy, one by the reference",
        "batch": OURS,
    },
    notes="A list of alphas has one for each round, the last of them for all that follow.",
)

VPO = replace(
    XPO,
    name="vpo",
    title="Value-incentivized Preference Optimization, online",
    paper="2405.19320",
    confidence="derived",
    players=Several(by=((START, 2), (INITIAL, 1))),
    schedules={},
    pairing=Replayed(base=WithThird(third="last"), shares=None),
    objective=Vpo(beta=0.1, alpha=1e-4),
    playground={
        **TINY,
        "objective.beta": 0.5,
        "objective.alpha": [0.01, 0.005, 0.002, 0.0],
        "play.rounds": 4,
        "play.samples": 8,
        "train.eps": 1e-2,
    },
    exact={"beta": 0.5, "alpha": 0.02},
    sources={
        **XPO.sources,
        **of(OURS, "beta rounds"),
        "alpha": NOT_RECOVERED,
        "optimistic": "paper's text: optimism online",
        "samples": "recalled: two by the policy; the reference calibrates",
    },
    notes="alpha was not recovered, and no code was released. The reward is calibrated by a mean of 0 under the policy "
    "that writes the third response, here the reference: this is what makes the optimal value the negative mean "
    "log-ratio of that response. The paper allows any such policy.",
)

VPO_OFFLINE = replace(
    DPO,
    name="vpo_offline",
    title="Value-incentivized Preference Optimization, offline",
    paper="2405.19320",
    confidence="derived",
    pairing=WithChosen(),
    objective=Vpo(beta=0.1, alpha=1.0, optimistic=False),
    playground={**DPO.playground, "objective.alpha": 0.1},
    exact={"beta": 0.5, "alpha": 0.1},
    sources={
        **DPO.sources,
        "alpha": NOT_RECOVERED,
        "optimistic": "paper's text: pessimism on recorded data",
    },
    notes="alpha was not recovered, and no code was released. The chosen responses calibrate: the reward has a mean of "
    "0 under them, so that pessimism raises their likelihood.",
)
