"""A subject known by a few images is to appear in new ones. Subject-driven reward preference optimization
(2407.12164) compares each reference image with one by the initial model, labels the pair by the lambda-harmonic mean of
likeness and prompt, and imitates the reference image whoever wins.
"""

from equipoise.core.objectives import Vpo
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import WithThird
from equipoise.play.players.recorded import Targets
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Refit

SUBJECT_RPO = Method(
    name="subject_rpo",
    title="Subject-driven Reward Preference Optimization",
    paper="2407.12164",
    confidence="verified in code",
    players=Targets(own=1, by=INITIAL),
    pairing=WithThird(third="first"),
    objective=Vpo(beta=0.1, alpha=1.0, optimistic=False),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=6,
    train={"batch": 16, "schedule": "constant"},
    playground={**TINY, "objective.beta": 0.5, "objective.alpha": 0.1, "train.epochs": 1, "play.rounds": 2},
    exact={"beta": 0.5, "alpha": 0.1},
    sources={
        **of(OURS, "schedule parts batch rounds"),
        "beta": "ours for text; 2 for images is the authors' 1 on errors, of which a score is minus a half",
        "alpha": "authors' code: with beta 2, the reference image's error has the weight 1",
        "optimistic": "minus the log-ratio of the reference image",
    },
    evidence=("tests/worlds/test_diffusion_methods.py", "subject_rpo_early_stopping"),
    notes="The loss is pessimistic VPO whose third response is the recorded one: DPO of it against an own sample, "
    "plus its error. Labels are the oracle's probabilities, the expectation of the authors' Bernoulli draws. Of "
    "the rounds' policies the one with the best reward on fresh samples is to be kept; evaluation.jsonl has them "
    "all.",
)
