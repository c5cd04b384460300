"""One reward for users who disagree is the majority's, and the policy that maximises it may serve a minority worse
than no training at all. MaxMin-RLHF (2402.08925) learns a reward for each group of users by
expectation-maximisation (`equipoise oracle train groups`) and maximises the reward of the group that is worst off.
"""

from dataclasses import replace

from equipoise.methods.ppo import PPO
from equipoise.methods.sources import OURS
from equipoise.play.pairings.max_min import MaxMin
from equipoise.play.players.sampled import Self

MAXMIN = replace(
    PPO,
    name="maxmin",
    title="MaxMin-RLHF",
    paper="2402.08925",
    confidence="paper's text",
    pairing=MaxMin(),
    in_theory=(Self(samples=2), MaxMin()),
    playground={**PPO.playground, "train.eps": 1e-2, "play.panel": "groups"},
    sources={
        **PPO.sources,
        "eta": "0 is the paper's: the worst group alone; multiplicative weights are ours",
        "tau": OURS,
    },
    evidence=("tests/play/test_max_min.py", "maxmin_worst_group"),
    notes="The oracle gives one score for each group, of `oracle train groups` or any with named scores. A reward is "
    "counted from its mean in round 1, in standard deviations of that round: learned rewards have no common zero or "
    "scale. The authors' code rewards every sample with its own minimum over the groups, a lower bound of the paper's "
    "objective; here the minimum is over the groups' means, as in the paper. PPO is ours, with its critic.",
)
