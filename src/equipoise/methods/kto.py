"""KTO (2402.01306) and APO-zero-unpaired (2408.06266): unpaired responses against a KL reference point."""

from dataclasses import replace

from equipoise.core.objectives import ApoZeroUnpaired, Kto
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS, of
from equipoise.play.pairings.unpaired import Labelled, WithUnrelated
from equipoise.play.players.unpaired import UnpairedResponses

KTO = replace(
    DPO,
    name="kto",
    title="Kahneman-Tversky Optimization",
    paper="2402.01306",
    players=UnpairedResponses(),
    pairing=WithUnrelated(),
    objective=Kto(beta=0.1),
    sources={
        **of(OURS, "schedule warmup"),
        "beta": "TRL and the authors' code",
        "desirable": "TRL and the authors' code; desirable n_D / (undesirable n_U) in [1, 4/3] is their advice",
        "undesirable": "TRL and the authors' code",
        "baseline": "'zero' would be apo_zero_unpaired",
        "batch": "ours, within the 16 to 128 that a usable reference point asks for (recalled)",
        "rounds": "the data are recorded once",
    },
    notes="The reference point z0 is measured over the whole optimizer step, on responses to unrelated prompts, and "
    "logged as `baseline`. It is above 0 only while the policy finds these likelier than the reference does, as when "
    "they share what is desired. On the playground their log-ratios fall, z0 is 0 in all 112 steps (seed 0), and every "
    "step is that of apo_zero_unpaired.",
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
