"""A preference between whole responses does not say which step was good. MCTS-DPO (2405.00451) grows a search tree
over the steps of a response with the policy, compares the best and the worst step after the same prefix, and learns
from these pairs by DPO, again and again with the tree of the policy that it has become.
"""

from equipoise.core.objectives import Dpo
from equipoise.methods.sources import CODE, OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.players.sampled import Self
from equipoise.play.players.tree_search import TreeSearch
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Descend

MCTS_DPO = Method(
    name="mcts_dpo",
    title="Monte Carlo tree search DPO",
    paper="2405.00451",
    confidence="verified in code",
    players=TreeSearch(),
    pairing=AsRecorded(),
    objective=Dpo(beta=0.1),
    anchors={"reference": INITIAL},
    update=Descend(rate=1.0),
    rounds=10,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.05},
    playground={
        **TINY,
        "play.rounds": 8,
        "train.lr": 3e-4,
        "train.epochs": 3,
        "train.batch": 64,
        "objective.beta": 0.5,
        "objective.iterations": 8,
        "objective.branch": 3,
        "objective.depth": 0,
        "objective.mark": "",
        "objective.outcome": "win_rate",
        "objective.self_evaluation": False,
    },
    exact={"beta": 0.5},
    in_theory=(Self(samples=2), Pairs()),
    sources={
        **of(CODE, "beta iterations exploration branch depth pairs batch weight_decay level"),
        **of(OURS, "rounds schedule warmup step_tokens opponents"),
        "rate": "ours; exact games only",
        "smoothing": "0: the label of a pair is smoothed by visit counts instead",
        "mark": "authors' code: lines, or sentences where there is one line",
        "outcome": "authors' code: +1.25 and -1",
        "self_evaluation": "authors' code",
    },
    evidence=("tests/play/trees/test_search.py", "tests/worlds/test_step_search.py", "mcts_dpo_step_pairs"),
    notes="The probability of a pair's label is 1 - alpha with alpha from visit counts, so that DPO's loss is the "
    "paper's smoothed one. Give an oracle that scores a response (1 for correct): a rule, tests of code. Not as in the "
    "authors' code: no step of a recorded solution joins the candidates, and the question of self-evaluation does not "
    "show the solution; equal candidates are merged, similar ones are not; siblings with equal Q give no pair; "
    "log-probs of a pair count from the end of the shared prefix, where equal first tokens of both steps cancel in the "
    "margin; each prompt has the same weight; the learning rate is not annealed over the run. On the playground a step "
    "is a token, and a response is worth its win rate against samples of the policy. A response of an exact game is "
    "one step.",
)
