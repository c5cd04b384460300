"""One policy for one weighting of several rewards serves one user; another weighting is another training run.
Directional preference alignment (2402.18571) trains a single policy that reads the weighting, a direction among the
rewards, in its prompt: fine-tuning on the best of N responses along directions drawn for each prompt.
"""

from equipoise.core.objectives import Sft
from equipoise.methods.sources import NOT_RECOVERED, OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.best_along import BestAlong
from equipoise.play.players.directed import Directed
from equipoise.play.updates.basic import Refit

DPA = Method(
    name="dpa",
    title="Directional Preference Alignment",
    paper="2402.18571",
    confidence="paper's text",
    players=Directed(samples=8),
    pairing=BestAlong(),
    objective=Sft(),
    anchors={},
    update=Refit(),
    rounds=4,
    train={"lr": 2e-5},
    playground={
        **TINY,
        "play.panel": "groups",
        "play.rounds": 30,
        "play.samples": 24,
        "objective.low": 0.0,
        "objective.high": 90.0,
        "objective.template": "{values} {prompt}",
        "objective.words": ["small", "large", "hot", "iced", "green", "mint", "black"],
        "train.epochs": 4,
        "train.batch": 16,
        "train.eps": 1e-2,
        "evaluate.every": 10,
    },
    sources={
        **of(NOT_RECOVERED, "rounds samples lr"),
        **of("released model", "low high"),
        "template": "ours, after the released model's prompt",
        "normalise": OURS,
    },
    evidence=("tests/play/test_directions.py", "dpa_front"),
    notes="Put the direction into the prompt at inference, in the words of `objective.template`. The released prompt is"
    " a system message; here it stands before the prompt, or before what the user says last, which every chat "
    "template admits. Scores count in standard deviations of round 1, where the authors rescale theirs to 0 to "
    "100. Number of samples, iterations and rates were not published with the model; nor was the training code. A"
    " threshold on v . r below which the best response is left out, and a mixture with earlier rounds' responses,"
    " are not here.",
)
