"""A hard label discards by how much one response is better than another. OSP, online self-preferring language
models (2405.14103), ranks the policy's own responses and trains on neighbours in the ranking with the strength
of each preference as a soft label.
"""

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import NOT_RECOVERED, OURS, of
from equipoise.methods.tiny import PAIR_ROUNDS
from equipoise.play.method import Method
from equipoise.play.pairings.ranking import Neighbours
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Refit

OSP = Method(
    name="osp",
    title="Online Self-Preferring language models",
    paper="2405.14103",
    confidence="recalled",
    players=Self(samples=4),
    pairing=Neighbours(),
    objective=Dpo(beta=0.1),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=3,
    train={"batch": 64},
    playground={**PAIR_ROUNDS, "play.samples": 8, "play.pairing": "method", "objective.beta": 0.5},
    exact={"beta": 0.5},
    in_theory=(Self(samples=2), Pairs()),
    sources={
        **of(NOT_RECOVERED, "beta samples rounds"),
        "smoothing": "0: the soft label takes its place",
        "pairing": "recalled: pairs along the ranking; neighbours are our choice",
        "batch": OURS,
    },
    evidence=("tests/play/test_pairing.py", "tests/core/test_strengths.py", "osp_strengths"),
    notes="The loss is DPO's in expectation over a soft label. The paper's judge is the policy itself, asked in both "
    "orders: give an oracle of kind self. On the playground it is the game's. How the paper turns a judgement into a "
    "strength was not recovered; here it is the probability of the judge's own next token.",
)
