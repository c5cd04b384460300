"""Some rewards are of a whole set: diversity, a distance between distributions. DRAGON (2504.15217) samples pairs from
the policy, splits them into a set with a high reward and one with a low, and contrasts the two by a pair loss or a loss
of single labelled responses, round after round.
"""

from dataclasses import replace

from equipoise.core.objectives import ApoZeroUnpaired, Dpo
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.greedy_split import GreedySplit
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Refit

DRAGON = Method(
    name="dragon",
    title="Distributional Reward Optimization",
    paper="2504.15217",
    confidence="recalled",
    players=Self(samples=2),
    pairing=GreedySplit(),
    objective=Dpo(beta=0.1),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=4,
    train={"batch": 64},
    playground={**TINY},
    sources={
        **of(OURS, "beta samples rounds batch"),
        "smoothing": "0 is DPO",
    },
    evidence=("tests/play/test_greedy_split.py", "tests/worlds/test_diffusion_methods.py", "dragon_sets"),
    notes="The framework is the paper's text, the greedy sweep is recalled, step sizes were not recovered. Oracles of "
    "sets are those of images (--world images --set task.oracle=exemplars); where an oracle compares single responses, "
    "as for text, a set's reward is the share of pairs that it wins, and each pair is decided alone.",
)

DRAGON_UNPAIRED = replace(
    DRAGON,
    name="dragon_unpaired",
    title="Distributional Reward Optimization, unpaired",
    pairing=GreedySplit(paired=False),
    objective=ApoZeroUnpaired(beta=0.1),
    sources={**of(OURS, "beta samples rounds batch")},
)
