"""Learning only from one's own samples is slow when a stronger teacher's responses are at hand. DNO-Prct, the
practical form of direct Nash optimization (2404.03715), ranks the teacher's response among the policy's own and
runs iterative DPO on clear winners against clear losers only.
"""

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import PAPER, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.replay_buffer import Replayed
from equipoise.play.pairings.score_margin import ScoreMargin
from equipoise.play.players.recorded import Targets
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit

DNO_PRCT = Method(
    name="dno_prct",
    title="Direct Nash Optimization, practical",
    paper="2404.03715",
    confidence="paper's text",
    players=Targets(own=5, parts=3, temperature=0.7, top_p=0.95),
    pairing=Replayed(base=ScoreMargin(high=5.0, margin=2.0, own_margin=1.0), shares=(0.3, 0.15)),
    objective=Dpo(beta=0.1),
    anchors={"reference": START},
    update=Refit(),
    rounds=3,
    train={"batch": 64},
    playground={
        **TINY,
        "train.eps": 1e-2,
        "objective.temperature": 1.0,
        "objective.top_p": 1.0,
        "objective.beta": 0.5,
        "train.epochs": 2,
    },
    exact={
        "beta": 0.5,
        "high": 3.0,
        "margin": 0.5,
        "own_margin": 0.25,
        "parts": 1,
        "temperature": 1.0,
        "top_p": 1.0,
    },
    in_theory=(Targets(own=2), ScoreMargin()),
    sources={
        **of(PAPER, "high margin own_margin parts samples temperature top_p rounds batch"),
        "beta": "paper's text: 0.1 or 0.05",
        "points": "ours; the paper's judge gives points, which points=oracle reads",
        "ngram": "paper's text has the rule; its length is ours",
        "smoothing": "0 is DPO",
    },
    evidence=("tests/play/test_score_margin.py",),
    notes="The teacher is the preferred response of the recorded pairs or, with play.teacher, a model behind a server. "
    "The paper's judge gives points on a 6-point "
    "scale: with points=oracle those of an oracle that scores single responses, such as a judge or a self-judge with "
    "`question: pointwise`, whose scale `high` must fit; by default six times the win rate among the prompt's six "
    "responses. A response that repeats a run of ten words always loses. The learning rate printed in the paper, 5e-5, "
    "looks too large for full fine-tuning. Exact games keep the thresholds, without replay; there a round's certain "
    "labels have their minimum at infinity, and policies collapse on few responses.",
)
