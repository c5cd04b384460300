"""Policy gradients such as REINFORCE need fresh samples of the policy, or importance weights for others. CoPG,
contrastive policy gradient (2406.19185), regresses reward differences of pairs on differences of log-ratios, so
that each response is the other's baseline and the samples may come from any policy.
"""

from dataclasses import replace

from equipoise.core.objectives import Copg
from equipoise.games.closed_form import mirror_step
from equipoise.methods.sources import NOT_RECOVERED, OURS, SHORT_ROUNDS, of
from equipoise.methods.tiny import MANY_STEPS, TINY
from equipoise.play.method import Method
from equipoise.play.needs import SCORED_LISTS
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.recorded import Recorded
from equipoise.play.players.sampled import Self, Written
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Descend, Refit

COPG = Method(
    name="copg",
    title="Contrastive Policy Gradient",
    paper="2406.19185",
    confidence="paper's text",
    players=Self(samples=2),
    pairing=Scored(against=INITIAL, opponents=2),
    objective=Copg(beta=0.1),
    anchors={"reference": INITIAL},
    update=Descend(rate=0.1),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={**MANY_STEPS, "objective.beta": 0.05, "play.samples": 8},
    exact={"beta": 0.1},
    in_theory=(Self(samples=2), Scored(against=INITIAL)),
    sources={
        **SHORT_ROUNDS,
        "beta": NOT_RECOVERED,
        "samples": "the paper's pair",
    },
    notes="Sampling and gradient steps alternate in short rounds. A squared loss on differences holds nothing else in "
    "place: in longer fits on the playground the log-probs of whole groups fell by 8 nats in one step.",
)

COPG_OFFLINE = replace(
    COPG,
    name="copg_offline",
    title="Contrastive Policy Gradient on recorded rewards",
    players=Recorded(needs=SCORED_LISTS),
    pairing=AsRecorded(),
    update=Refit(),
    rounds=1,
    train={"batch": 64},
    playground={**TINY, "train.lr": 5e-4, "train.batch": 16, "train.epochs": 4, "objective.beta": 0.2},
    closed_form=lambda game, _, m: mirror_step(
        game.initial(), game.win(game.initial()), step=1 / m.parameters()["beta"]
    ),
    in_theory=(Written(by=INITIAL, samples=2), Scored(against=INITIAL)),
    sources={
        **of(OURS, "parts batch rounds"),
        "beta": NOT_RECOVERED,
    },
    notes="The recorded rewards of a prompt's responses as they are: tests passed, an entailment score, a rating. Only "
    "R/beta matters at the optimum. An exact game records two responses of the initial policy and their win rates.",
)
