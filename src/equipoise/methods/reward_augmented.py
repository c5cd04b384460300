"""Pair losses push a rejected response down even where it is nearly as good, and forget by how much. Reward-augmented
data (2410.08067) trains on every scored pair twice, asked for the score of either response, which is then the
preferred one. The policy tells levels of quality apart, and is asked for the best when it is used.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import CODE, of
from equipoise.play.needs import PAIRS_WITH_GOALS
from equipoise.play.players.recorded import Recorded

REWARD_AUGMENTED = replace(
    DPO,
    name="reward_augmented",
    title="DPO on reward-augmented data",
    paper="2410.08067",
    players=Recorded(needs=PAIRS_WITH_GOALS),
    objective=Dpo(beta=0.01),
    train={"lr": 5e-7, "epochs": 1, "schedule": "cosine", "warmup": 0.1, "batch": 64},
    playground={
        **DPO.playground,
        "data.goal": "{goal}",
        "data.goal_levels": ["asks", "tea."],
        "play.phases": {
            "sft": {
                "data.at_goals": True,
                "train.epochs": 12,
                "train.batch": 64,
                "train.lr": 1e-3,
                "train.eps": 1e-8,
            }
        },
        "train.lr": 1e-5,
        "train.epochs": 1,
    },
    exact={"beta": 0.5},
    sources={**DPO.sources, **of(CODE, "beta lr epochs schedule")},
    evidence=("tests/data/test_goals.py", "reward_augmented_goals"),
    status="experimental",
    notes="The goal is a sentence in the system turn, or before a plain text (data.goal). Pairs whose label "
    "contradicts the scores and pairs of equal goals are left out. The authors' variant for models without a system "
    "turn exchanges the user turns alone, so that its copies at the low goal keep the high one's preference; here the "
    "responses are swapped in every variant (data.system_turn=merge for such models). Evaluation asks for the best "
    "goal. The playground's grammar has no digits, so its goals are two of its words. Exact games, whose prompts hold "
    "no goal, play DPO. Goals must be words that the model tells apart: the two copies cancel until it reads them. On "
    "the playground SFT on either response at its own goal (data.at_goals) comes first and reads them (seed 1: 34.4 % "
    "against the shipped model at the low goal, 64.7 % at the best). Experimental: DPO after that moves the goals "
    "further apart and mass out of the grammar, 25 % at the rate 3e-5 and 2.8 % at 1e-5.",
)
