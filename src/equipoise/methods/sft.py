"""Supervised fine-tuning (2203.02155): the cross-entropy of responses to imitate.

Preference methods start from a policy that can already answer; most papers make it by SFT on demonstrations or on the
chosen responses. The loss falls on the answer's tokens alone, and every token of the data weighs the same.
"""

from equipoise.core.objectives import Sft
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.unpaired import Labelled
from equipoise.play.players.recorded import Demonstrations
from equipoise.play.updates.basic import Refit

SFT = Method(
    name="sft",
    title="Supervised fine-tuning",
    paper="2203.02155",
    confidence="verified in code",
    players=Demonstrations(),
    pairing=Labelled(),
    objective=Sft(),
    anchors={},
    update=Refit(),
    rounds=1,
    train={"lr": 2e-5},
    playground={**TINY, "train.epochs": 3},
    sources={
        **of(OURS, "rounds"),
        "lr": "alignment handbook's recipe for Zephyr, 7B; its recipe for SmolLM2 of 135M and 360M has 1e-3",
    },
    notes="Of preference pairs the chosen response is imitated, of unpaired feedback the desirable ones, of a ranked "
    "list the best; conversations give one demonstration for each assistant turn (data.turns).",
)
