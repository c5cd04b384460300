"""Reinforcement learning from preferences fits a reward by partial returns, although people judge regret, and then
needs a second, unstable optimisation. CPL, contrastive preference learning (2310.13639), reads a policy's
log-likelihoods as the advantages of its own reward, so that one logistic loss on recorded segments trains it, off
policy and in any decision process: for control, and as a loss without a reference for text.
"""

from dataclasses import replace

from equipoise.core.objectives import Cpl, CplKl, CplRanking
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.needs import LISTS
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.recorded import Recorded
from equipoise.play.players.sampled import Written
from equipoise.play.state import INITIAL

CODE = "authors' code"

CPL = replace(
    DPO,
    name="cpl",
    title="Contrastive Preference Learning",
    paper="2310.13639",
    objective=Cpl(alpha=0.1, bias=0.5),
    anchors={},
    train={},
    playground={**TINY, "objective.alpha": 0.5, "objective.bias": 1.0, "train.epochs": 4},
    sources={
        **of(OURS, "schedule parts warmup"),
        "alpha": CODE,
        "bias": f"{CODE}; 1 is plain CPL",
        "bc": "0 is CPL, 1 with bias 1 is CPL-BC",
        "batch": "ours; the authors take 96 pairs of segments of 64 steps",
        "rounds": "the data are recorded once",
    },
    evidence=("tests/core/test_contrastive.py", "tests/worlds/test_control.py", "cpl_control"),
    notes="Without a reference nothing but the bias, or behaviour cloning, ties the policy to where it began. In "
    "control a run begins from behaviour cloning of all recorded segments, with a fresh optimizer, as in the paper.",
)

CPL_BC = replace(
    CPL,
    name="cpl_bc",
    title="Contrastive Preference Learning with behaviour cloning",
    objective=Cpl(alpha=0.1, bias=1.0, bc=1.0),
    playground={**CPL.playground, "objective.bc": 0.2},
)

CPL_KL = replace(
    CPL,
    name="cpl_kl",
    title="Contrastive Preference Learning with a reference",
    objective=CplKl(alpha=0.2, bias=0.75),
    anchors={"reference": INITIAL},
    sources={name: source for name, source in CPL.sources.items() if name != "bc"},
    notes="With bias 1 it is DPO.",
)

CPL_RANKING = replace(
    CPL,
    name="cpl_ranking",
    title="Contrastive Preference Learning from rankings",
    players=Recorded(needs=LISTS),
    objective=CplRanking(alpha=0.1, bias=0.5),
    playground={**TINY, "objective.alpha": 0.5, "objective.bias": 1.0, "train.lr": 5e-4, "train.epochs": 4},
    in_theory=(Written(by=INITIAL, samples=3), Scored(against=INITIAL)),
    sources={name: source for name, source in CPL.sources.items() if name != "bc"},
    notes="A finite game's lists are three responses of the initial policy, by their win rates against it.",
)
