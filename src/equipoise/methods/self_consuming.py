"""Models are trained on what models wrote and people chose to keep. Self-consuming training with curation
(2407.09499) writes several responses to a prompt, keeps one by a Bradley-Terry choice and fits the next model to what
was kept by maximum likelihood: reward maximisation without a reward in the loss, which narrows the policy unless real
data is mixed in.
"""

from equipoise.core.objectives import Sft
from equipoise.games.curation import self_consuming_step
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY, UNTRUNCATED
from equipoise.play.method import Method
from equipoise.play.pairings.curated import Curated
from equipoise.play.players.sampled import Self
from equipoise.play.state import START
from equipoise.play.updates.demonstrations import WithDemonstrations

SELF_CONSUMING = Method(
    name="self_consuming",
    title="Self-consuming training with curation",
    paper="2407.09499",
    confidence="recalled",
    players=Self(samples=4),
    pairing=Curated(gamma=1.0),
    objective=Sft(),
    anchors={},
    update=WithDemonstrations(real=0.5),
    rounds=10,
    train={"lr": 2e-5},
    closed_form=lambda game, state, m: self_consuming_step(
        game,
        state.policies[START],
        choices=m.players.width or 1,
        gamma=m.parameters()["gamma"],
        real=m.parameters()["real"],
    ),
    in_theory=(Self(samples=4), Curated(gamma=1.0, draw=False)),
    playground={**TINY, **UNTRUNCATED, "play.samples": 4, "train.epochs": 3},
    sources={
        "lr": "sft's",
        **of(OURS, "samples real rounds"),
        "gamma": "1 is the paper's choice by e^r; its images have r = 5 P(class)",
    },
    evidence=("tests/play/test_curated.py", "tests/games/test_curation.py", "self_consuming_curation"),
    notes="Each fit starts at the round's policy, where the paper retrains from scratch; with enough steps both are "
    "the maximum-likelihood fit. real is 1/(1 + lambda) in the paper's symbol, as a share of tokens. Rewards are "
    "log-odds of the oracle's comparisons, K (K - 1)/2 for each prompt. Recorded responses are those that SFT "
    "imitates, of pairs the preferred ones. With real=0 the policy narrows to the responses of the highest reward "
    "that it can write: the null model of every loop that imitates its own best samples.",
)
