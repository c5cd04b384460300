"""KTO (2402.01306) and APO-zero-unpaired (2408.06266): recorded thumbs, each response against a reference point."""

from dataclasses import replace

from equipoise.core.objectives import ApoZeroUnpaired, Kto
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.unary import Labelled, Thumbs, WithUnrelated
from equipoise.play.updates import Refit
from equipoise.play.world import INITIAL

KTO = Method(
    name="kto",
    title="Kahneman-Tversky Optimization",
    paper="2402.01306",
    confidence="verified in code",
    needs="unary",
    players=Thumbs(),
    pairing=WithUnrelated(),
    objective=Kto(beta=0.1),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=1,
    train={"batch": 64, "schedule": "linear", "warmup": 0.1},
    playground={**TINY, "objective.beta": 0.5, "train.epochs": 4},
    sources={
        **of(OURS, "schedule warmup"),
        "beta": "TRL and the authors' code",
        "desirable": "TRL and the authors' code; desirable n_D / (undesirable n_U) in [1, 4/3] is their advice",
        "undesirable": "TRL and the authors' code",
        "baseline": "'zero' would be apo_zero_unpaired",
        "batch": "ours, within the 16 to 128 that a usable reference point asks for (recalled)",
        "rounds": "the data are recorded once",
    },
    notes="The reference point is measured over the whole optimizer step, on responses to unrelated prompts.",
)

APO_ZERO_UNPAIRED = replace(
    KTO,
    name="apo_zero_unpaired",
    title="Anchored Preference Optimization on single responses",
    paper="2408.06266",
    pairing=Labelled(),
    objective=ApoZeroUnpaired(beta=0.1),
    sources=KTO.sources | {"baseline": "'batch' would be KTO, which needs a second column", "batch": OURS},
    notes="KTO with its reference point at 0: nothing is measured over the batch.",
)
