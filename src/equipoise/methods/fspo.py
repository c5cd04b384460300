"""A reward for every user needs many of their labels. FSPO, few-shot preference optimization (2502.19312), shows the
policy a few labelled pairs of a user in its prompt and trains it by IPO to prefer what that user prefers, so that it
adapts to users it has never seen from a handful of choices.
"""

from dataclasses import replace

from equipoise.core.objectives import Ipo
from equipoise.methods.ipo import IPO
from equipoise.play.method import Phase

FSPO = replace(
    IPO,
    name="fspo",
    title="Few-Shot Preference Optimization",
    paper="2502.19312",
    confidence="verified in code",
    objective=Ipo(tau=0.01),
    data={"shots": 4, "split_by": "user"},
    phases=(Phase(name="sft", method="sft"),),
    playground={
        **IPO.playground,
        "play.panel": "groups",
        "data.shots": 2,
        "data.pairs": 4000,
        "data.coverage": "uniform",
    },
    closed_form=None,
    by_size={},
    sources={
        **IPO.sources,
        "tau": "authors' code (its beta)",
        "shots": "paper's text: 4",
    },
    evidence=("tests/data/test_episodes.py", "fspo_unseen_users"),
    notes="The loss is IPO's with summed log-ratios, on episodes: `data.shots` labelled pairs of a user in the prompt, "
    "and another pair of the same user as the query. The held-out share is one of users, so ranking accuracy is of "
    "users that were never trained on. SFT on the preferred answers of the same episodes comes first. A description of "
    "the user, generated before the answer, is an option of the paper that is not built.",
)
