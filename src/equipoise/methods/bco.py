"""Feedback is often a thumbs-up or thumbs-down on a single response, not a pair. BCO, binary classifier
optimization (2404.04656), trains a classifier of the two whose logit is the implicit reward minus a shift;
where good and bad responses come from different prompts, underlying-distribution matching (UDM) reweights them
by a density ratio.
"""

from dataclasses import replace

from equipoise.core.objectives import Bco
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS, of
from equipoise.play.pairings.unpaired import Labelled, MatchedPrompts
from equipoise.play.players.unpaired import UnpairedResponses

BCO = replace(
    DPO,
    name="bco",
    title="Binary Classifier Optimization",
    paper="2404.04656",
    players=UnpairedResponses(),
    pairing=Labelled(balanced=True),
    objective=Bco(beta=0.1),
    sources={
        **of(OURS, "schedule warmup batch"),
        "beta": "TRL",
        "shift": "the paper's as we recall it; TRL pools both kinds",
        "rounds": "the data are recorded once",
    },
    notes="Both kinds have equal weight over the data, whatever their numbers: the loss is a sum of two means.",
)

BCO_UDM = replace(
    BCO,
    name="bco_udm",
    title="BCO with underlying-distribution matching",
    pairing=MatchedPrompts(),
    notes="For undesirable responses to other prompts than the desirable ones: importance weights correct the shift.",
)
