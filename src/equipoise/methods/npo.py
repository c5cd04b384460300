"""Unlearning by gradient ascent on what a model should forget soon destroys the model. NPO, negative preference
optimization (2404.05868), is DPO without the chosen response, whose gradient fades as a response is forgotten;
variants add a retain set, and SimNPO (2410.07163) drops the reference for length-normalised log-probs.
"""

from dataclasses import replace

from equipoise.core.objectives import GradientAscent, Npo, NpoKl, NpoRt, SimNpo
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.unpaired import Labelled
from equipoise.play.players.unpaired import DispreferredResponses, UnpairedResponses
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Descend, Refit
from equipoise.play.updates.live_reference import LiveRefit

# the total mass of what is forgotten has nowhere known to go: few, small steps
FEW_STEPS = {**TINY, "train.lr": 3e-4, "train.epochs": 1}

NPO = Method(
    name="npo",
    title="Negative Preference Optimization",
    paper="2404.05868",
    confidence="verified in code",
    players=DispreferredResponses(),
    pairing=Labelled(),
    objective=Npo(beta=0.1),
    anchors={"reference": INITIAL},
    update=Refit(),
    rounds=1,
    train={"epochs": 10, "batch": 16, "weight_decay": 0.01, "lr": 1e-5, "schedule": "linear", "warmup": 0.1},
    playground={**FEW_STEPS, "train.weight_decay": 0.0},
    sources={
        **of("authors' code, for TOFU", "beta epochs batch weight_decay lr"),
        **of(OURS, "schedule warmup"),
        "retain": "0: the forget set alone",
        "own": "no samples are needed",
        "rounds": "the data are recorded once",
    },
    notes="Of pairs only the dispreferred responses are read, of labelled responses the undesirable ones.",
)

NPO_RT = replace(
    NPO,
    name="npo_rt",
    title="NPO with a retain set",
    players=UnpairedResponses(),
    pairing=Labelled(balanced=True),
    objective=NpoRt(beta=0.1),
    playground={**NPO.playground, "train.lr": 1e-3, "train.epochs": 2},
    sources={**NPO.sources, "retain": "authors' code; there the NLL is a mean over tokens"},
    notes="Desirable responses are the retain set; both sets have equal weight.",
)

NPO_KL = replace(
    NPO_RT,
    name="npo_kl",
    title="NPO held to the reference on a retain set",
    objective=NpoKl(beta=0.1),
    update=LiveRefit(),
    sources={**NPO.sources, "retain": "authors' code"},
    notes="Desirable responses are the retain set; both sets have equal weight. The reference is a second model in "
    "memory while the policy is trained.",
)

GRADIENT_ASCENT = replace(
    NPO,
    name="gradient_ascent",
    title="Gradient ascent on what is to be forgotten",
    confidence="derived",
    objective=GradientAscent(),
    update=Descend(rate=0.1),
    sources={**NPO.sources, "beta": "the limit of NPO", "rate": "ours; exact games only"},
    notes="The baseline that NPO is compared with: its pull never fades, and no minimum is there to stop at.",
)

SIMNPO = replace(
    NPO,
    name="simnpo",
    title="Simple Negative Preference Optimization",
    paper="2410.07163",
    confidence="recalled",
    objective=SimNpo(beta=2.5),
    anchors={},
    sources={
        **NPO.sources,
        **of("paper, recalled", "beta gamma"),
        **of("as NPO", "epochs batch weight_decay lr"),
    },
    notes="No reference stops it: it goes on until the mean token log-prob lies far below -gamma/beta.",
)
