"""DPO's likelihood argument asks for pairs sampled from the optimal policy, which recorded pairs are not. RSO,
statistical rejection sampling optimization (2309.06657), approximates that policy by rejection sampling from
the initial policy's responses and trains on labelled pairs of accepted ones.
"""

from dataclasses import replace

from equipoise.core.objectives import Hinge, HingeNorm, RsoNorm
from equipoise.methods.sources import OURS, PAPER, of
from equipoise.methods.tiny import TINY, UNTRUNCATED
from equipoise.play.method import Method
from equipoise.play.pairings.ranking import Matches
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.players.rejection import Accepting, Rejected
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Refit

RSO = Method(
    name="rso",
    title="Statistical Rejection Sampling Optimization",
    paper="2309.06657",
    confidence="paper's text",
    players=Rejected(samples=8, candidates=64, beta=0.5),
    pairing=Matches(),
    objective=RsoNorm(gamma=0.05),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=1,
    train={"batch": 32},
    sampling={"temperature": 0.7, "top_k": 40},
    playground={**TINY, **UNTRUNCATED, "objective.gamma": 0.5, "objective.candidates": 24, "train.epochs": 8},
    exact={"gamma": 0.5},
    in_theory=(Accepting(), Pairs()),
    sources={
        **of(PAPER, "gamma beta candidates samples batch temperature top_k"),
        "tournament": "paper's text: first-round ranking, its default",
        "pairing": "paper's text",
        "rounds": OURS,
    },
    evidence=("tests/play/test_rejection.py", "tests/play/test_pairing.py"),
    notes="The likelier winner of a match is the preferred one; "
    "whether the paper draws the label was not recovered. The paper's ranking model reads both responses at once; any "
    "oracle stands for it. Equal texts are candidates of their own. Exact games play the limit of many candidates with "
    "soft labels, at temperature 1.",
)

RSO_HINGE_NORM = replace(
    RSO, name="rso_hinge_norm", title="RSO with the hinge-norm loss", objective=HingeNorm(gamma=0.05)
)

RSO_HINGE = replace(
    RSO,
    name="rso_hinge",
    title="RSO with the hinge loss of SLiC",
    objective=Hinge(gamma=0.05),
    anchors={},
    notes=f"{RSO.notes} The paper finds reward hacking with this loss.",
)
