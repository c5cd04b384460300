"""RSO (2309.06657): pairs of responses that rejection sampling accepts, as if the optimal policy had written them."""

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import OURS, PAPER, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairing import Pairs
from equipoise.play.ranking import Matches
from equipoise.play.rejection import Accepting, Rejected
from equipoise.play.updates import Refit
from equipoise.play.world import INITIAL

RSO = Method(
    name="rso",
    title="Statistical Rejection Sampling Optimization",
    paper="2309.06657",
    confidence="paper's text",
    needs="oracle",
    players=Rejected(samples=8, candidates=64, sampling_beta=0.5),
    pairing=Matches(),
    objective=Dpo(beta=0.05),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=1,
    train={"batch": 32},
    playground={**TINY, "objective.beta": 0.5, "objective.candidates": 24, "train.epochs": 8},
    exact={"beta": 0.5},
    in_theory=(Accepting(), Pairs()),
    sources={
        **of(PAPER, "candidates sampling_beta samples batch"),
        "beta": "paper's text: its gamma, which need not be the sampler's beta",
        "smoothing": "0 is DPO",
        "tournament": "paper's text: first-round ranking, its default",
        "pairing": "paper's text",
        "rounds": OURS,
    },
    evidence=("tests/play/test_rejection.py", "tests/play/test_pairing.py"),
    notes="beta is the paper's gamma, sampling_beta its beta. The likelier winner of a match is the preferred one; "
    "whether the paper draws the label was not recovered. It samples at temperature 0.7 and top_k 40. Equal texts are "
    "candidates of their own. Exact games play the limit of many candidates with soft labels.",
)
