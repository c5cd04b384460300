"""Unlearning by gradient ascent on what a model should forget soon destroys the model. NPO, negative preference
optimization (2404.05868), is DPO without the chosen response, whose gradient fades as a response is forgotten;
variants add a retain set, and SimNPO (2410.07163) drops the reference for length-normalised log-probs.
"""

from dataclasses import replace

from equipoise.core.objectives import GradientAscent, Npo, NpoKl, NpoRt, SimNpo
from equipoise.methods.sources import of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.unpaired import Labelled
from equipoise.play.players.unpaired import DispreferredResponses, UnpairedResponses
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Descend, Refit
from equipoise.play.updates.live_reference import LiveRefit

# the total mass of what is forgotten has nowhere known to go: few, small steps
FEW_STEPS = {**TINY, "train.lr": 3e-4, "train.epochs": 1}

SETS = (
    "Desirable responses are the retain set. Both sets have half of the weight, so that the loss is half of the "
    "authors' sum. evaluation.jsonl has the two probabilities that TOFU measures, of held-out responses to retain "
    "(chosen_probability) and to forget (rejected_probability); its other figures are not here."
)

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
    train={"epochs": 10, "batch": 32, "weight_decay": 0.01, "lr": 1e-5, "schedule": "linear", "warmup": 0.1},
    playground={**FEW_STEPS, "train.weight_decay": 0.0},
    sources={
        **of("authors' code, for TOFU", "beta epochs weight_decay lr"),
        "batch": "authors' code, for TOFU: 2 processes, 4 responses each, accumulated over 4 passes",
        "schedule": "authors' code: their trainer's default",
        "warmup": "authors' code: one epoch of ten",
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
    train={**NPO.train, "batch": 64},
    # the playground's rate is 100 times the authors': there the weight of a mean over seven tokens is that of their sum
    playground={**NPO.playground, "train.lr": 1e-3, "train.epochs": 2, "objective.retain": 7.0},
    sources={
        **NPO.sources,
        "retain": "authors' code",
        "batch": "authors' code, for TOFU: 32 responses to forget, each with one to retain",
    },
    notes=SETS,
)

NPO_KL = replace(
    NPO_RT,
    name="npo_kl",
    title="NPO held to the reference on a retain set",
    objective=NpoKl(beta=0.1),
    playground={**NPO.playground, "train.lr": 1e-3, "train.epochs": 2},
    update=LiveRefit(),
    notes=f"{SETS} The divergence is a mean over the response's tokens, in the authors' code over all positions of a "
    "padded batch, prompts and padding among them. The reference is a second model in memory while the policy is "
    "trained.",
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
        **of("as NPO", "epochs batch weight_decay lr schedule warmup"),
    },
    notes="No reference stops it: it goes on until the mean token log-prob lies far below -gamma/beta.",
)
