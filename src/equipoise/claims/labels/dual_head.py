"""Dual-head distillation (2411.08937): losses of labels and of logits on two heads, with aligned gradients."""

from __future__ import annotations

from equipoise.claims.claim import Claim, Evidence, Scale, verdict
from equipoise.claims.labels.runs import figure, gain, over_seeds, table, told
from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.distil import DualHead
from equipoise.worlds.labels.examples import Split, divided
from equipoise.worlds.labels.outcome import Outcome, Recipe
from equipoise.worlds.labels.sets import digits

DUAL, ONE, LABELS, FREE = (
    "two heads, aligned",
    "both losses on one head",
    "labels alone",
    "two heads, not aligned",
)
ARMS: dict[str, Recipe] = {
    LABELS: DualHead(heads="labels"),
    "teacher's logits alone": DualHead(heads="teacher"),
    ONE: DualHead(heads="one"),
    FREE: DualHead(heads="two", align=False),
    DUAL: DualHead(heads="two"),
}


def split(seeds: Seeds) -> Split:
    return divided(digits(), 0.5, seeds.generator("split"))


def heads(scale: Scale) -> Evidence:
    return judge(over_seeds(ARMS, split, {"quick": 2, "full": 6}[scale]))


def judge(found: dict[str, list[Outcome]]) -> Evidence:
    """The verdict on outcomes by arm."""

    def over(rival: str) -> tuple[float, float, float]:
        return gain(figure(found[DUAL], "accuracy"), figure(found[rival], "accuracy"))

    conflict = figure(found[DUAL], "conflict")
    return Evidence(
        verdict=verdict(over(ONE)[1] > 0, (over(LABELS)[1] > 0, over(FREE)[1] > 0)),
        summary=f"Two heads with aligned gradients over one head with both losses: {told(over(ONE))}; over labels "
        f"alone: {told(over(LABELS))}; over two heads without alignment: {told(over(FREE))}. The gradients "
        f"contradict each other in {conflict.mean():.0%} of the steps.",
        tables=(
            table(
                f"digits, {len(found[DUAL])} seeds, a student of 32 hidden units and a teacher of 256",
                found,
                {"accuracy": "accuracy", "ece": "ECE", "teacher": "the teacher's"},
                ONE,
            ),
        ),
    )


HEADS = Claim(
    name="dual_head_distillation",
    sentence="Losses of labels and of logits hurt each other on one head; on two heads with aligned gradients the "
    "student gains from both.",
    paper="2411.08937",
    rule="Digits, half of them for training; the paper's optimizer and its decay, scaled to 40 epochs; 95 % intervals "
    "of paired differences over seeds. Heart: two heads with aligned gradients are more accurate than both losses on "
    "one head. Also: more accurate than labels alone, and than two heads without alignment.",
    program=heads,
    set="the rate was set to the paper's after a smaller one had left the teacher too little trained on another seed.",
)
