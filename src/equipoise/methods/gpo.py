"""Bradley-Terry rewards cannot express cyclic preferences. GPO, general preference optimization (2410.02197),
scores pairs by a skew-symmetric preference model, here the log-odds of the oracle, and regresses the policy's
log-ratio on a response's mean score as SPPO does on win rates. The loss is RECALLED.
"""

from equipoise.core.objectives import Gpo
from equipoise.games.closed_form import gpo_step
from equipoise.methods.sources import OURS
from equipoise.methods.tiny import GROUP_ROUNDS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import BestWorst, Scored
from equipoise.play.players.sampled import Self
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit

GPO = Method(
    name="gpo",
    title="General Preference Optimization",
    paper="2410.02197",
    confidence="recalled",
    players=Self(samples=5),
    pairing=BestWorst(keep="rates", with_itself=True, scores="logit"),
    objective=Gpo(beta=0.001),
    anchors={"previous": START},
    update=Refit(),
    rounds=3,
    train={"batch": 64},
    playground={**GROUP_ROUNDS, "train.eps": 1e-2, "objective.beta": 1.0, "play.pairing": "method"},
    exact={"beta": 1.0},
    closed_form=lambda game, state, m: gpo_step(game, state.policies[START], eta=1 / m.parameters()["beta"]),
    in_theory=(Self(samples=1), Scored(scores="logit", opponents=1)),
    sources={
        "beta": "authors' scripts",
        "pairing": "authors' scripts: best and worst by a table of scores that counts each response against itself",
        "samples": "authors' scripts",
        "rounds": "authors' scripts",
        "batch": OURS,
    },
    notes="A trained general preference model (a folder of `oracle train`) as the oracle gives the scores; of any "
    "other oracle they are its log-odds. The authors' table counts every score twice, once from each side, so that "
    "their 0.001 is 0.0005 here. The closed form leaves the log-partition out, as SPPO's does; certain preferences "
    "(P = 0 or 1) are refused.",
)
