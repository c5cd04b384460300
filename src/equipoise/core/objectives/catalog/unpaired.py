"""Catalogue of unpaired losses: single labelled responses, dispreferred responses alone, margins of a whole batch."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log1p
from types import MappingProxyType

from equipoise.core.objectives.catalog.row import LOG2, Claim, Limit, Row, always, never
from equipoise.core.objectives.stochastic_order import Aot, AotUnpaired
from equipoise.core.objectives.unlearning import D2o, GradientAscent, Npo, NpoKl, NpoRt, SimNpo
from equipoise.core.objectives.unpaired import ApoZeroUnpaired, Bco, Kto
from equipoise.core.scores import Scores

ONE_RESPONSE: MappingProxyType[Claim, str] = MappingProxyType(
    {"margin": "a label of one response: there is no pair to swap"}
)


def _pair_with_one_reference(scores: Scores) -> Scores:
    """The first two candidates, with the first anchor as every anchor."""
    first = next(iter(scores.anchors.values()))[:, :2]
    return replace(scores, logp=scores.logp[:, :2], anchors=dict.fromkeys(scores.anchors, first), length=None)


ROWS: dict[str, Row] = {
    "kto": Row(
        build=Kto,
        title="Kahneman-Tversky optimisation",
        paper="2402.01306",
        confidence="verified in code",
        variants=({"baseline": "zero"}, {"desirable": 1.5, "undesirable": 0.5}),
        at_anchor=lambda o: (o.undesirable / 2, o.desirable / 2),
        exempt=ONE_RESPONSE,
        shift_invariant=never,  # a single response: c(x) does not cancel
        data="unpaired",
        bounded="0 <= loss <= weight; gradient fades on both tails",
        limits=(Limit(parameters={"baseline": "zero"}, is_="apo_zero_unpaired"),),
        deviations=(
            "TRL and HALOs take the unrelated response from the batch, cycled by one; here it is drawn from all data",
            "HALOs leaves zeros out of the mean of the reference point",
        ),
        evidence=("tests/core/test_unpaired.py", "tests/worlds/test_context.py", "kto_card"),
    ),
    "apo_zero_unpaired": Row(
        build=ApoZeroUnpaired,
        title="Anchored preference optimisation, single responses",
        paper="2408.06266",
        confidence="verified in code",
        at_anchor=lambda o: (o.undesirable / 2, o.desirable / 2),
        exempt=ONE_RESPONSE,
        shift_invariant=never,  # a single response: c(x) does not cancel
        data="unpaired",
        bounded="0 <= loss <= weight; gradient fades on both tails",
        evidence=("tests/core/test_unpaired.py",),
    ),
    "bco": Row(
        build=Bco,
        title="Binary classifier optimisation",
        paper="2404.04656",
        confidence="verified in code",
        variants=({"shift": "pooled"}, {"shift": "balanced"}, {"shift": "none"}),
        at_anchor=lambda _: (LOG2, LOG2),
        exempt=ONE_RESPONSE,
        shift_invariant=never,  # c(x) differs from prompt to prompt, the shift does not
        data="unpaired",
        bounded="loss >= 0; on a pair >= the DPO loss",
        deviations=("TRL's shift moves with every forward pass, here with every optimizer step",),
        evidence=(
            "tests/core/test_unpaired.py",
            "tests/agree/test_authors_losses.py",
            "tests/worlds/test_context.py",
            "bco_mismatched_thumbs",
        ),
    ),
    "aot": Row(
        build=Aot,
        title="Alignment by optimal transport",
        paper="2406.05882",
        confidence="verified in code",
        variants=({"smoothing": 0.2},),
        at_anchor=lambda _: LOG2,
        exempt={"repetition": "equal margins have different ranks, and so meet different reference margins"},
        data="pairs",
        bounded="loss >= 0",
        evidence=("tests/core/test_stochastic_order.py", "tests/worlds/test_context.py"),
    ),
    "aot_unpaired": Row(
        build=AotUnpaired,
        title="Alignment by optimal transport, single responses",
        paper="2406.05882",
        confidence="verified in code",
        variants=({"smoothing": 0.2},),
        at_anchor=lambda _: (LOG2, LOG2),
        exempt={
            **ONE_RESPONSE,
            "repetition": "equal log-ratios have different ranks, and so meet different responses",
        },
        shift_invariant=never,  # c(x) differs from prompt to prompt, the ranks do not follow it
        data="unpaired",
        bounded="loss >= 0",
        deviations=("TRL takes both responses of each pair of a batch; here any numbers of either kind",),
        evidence=("tests/core/test_stochastic_order.py",),
    ),
    "npo": Row(
        build=Npo,
        title="Negative preference optimisation",
        paper="2404.05868",
        confidence="verified in code",
        variants=({"beta": 1.0},),
        at_anchor=lambda o: (2 / o.beta * LOG2, 0.0),
        exempt=ONE_RESPONSE,
        shift_invariant=never,  # a single response: c(x) does not cancel
        data="unpaired",
        bounded="loss >= 0; gradient fades when forgotten",
        limits=(
            Limit(parameters={"beta": 0.0}, is_="gradient_ascent"),
            Limit(
                parameters={"beta": 1e-4},
                is_="gradient_ascent",
                words="beta -> 0",
                where="labels 0",
                up_to_constant=True,
                given=lambda scores: replace(scores, reward=0 * scores.rewards()),
                tolerance=1e-3,
            ),
        ),
        evidence=(
            "tests/core/test_unlearning.py",
            "tests/agree/test_authors_losses.py",
            "npo_slow_collapse",
        ),
    ),
    "npo_rt": Row(
        build=NpoRt,
        title="Negative preference optimisation with a retain set",
        paper="2404.05868",
        confidence="verified in code",
        exempt={**ONE_RESPONSE, "at_anchor": "the retain term is a log-prob, not a ratio"},
        shift_invariant=never,  # a single response: c(x) does not cancel
        data="unpaired",
        bounded="loss >= 0",
        limits=(Limit(parameters={"retain": 0.0}, is_="npo"),),
        deviations=(
            "the authors' code takes the retain term's mean over a micro-batch's tokens, here response by response",
        ),
        evidence=("tests/core/test_unlearning.py", "tests/agree/test_authors_losses.py"),
    ),
    "npo_kl": Row(
        build=NpoKl,
        title="Negative preference optimisation, held to the reference on a retain set",
        paper="2404.05868",
        confidence="verified in code",
        variants=({"beta": 1.0, "retain": 0.3},),
        at_anchor=lambda o: (2 / o.beta * LOG2, 0.0),
        exempt=ONE_RESPONSE,
        shift_invariant=never,  # a single response: c(x) does not cancel
        data="unpaired",
        bounded="loss >= 0; gradient fades when forgotten",
        limits=(
            Limit(
                parameters={"retain": 0.0, "beta": 0.3},
                is_="npo",
                other={"retain": 0.0},
                words="retain = 0",
            ),
        ),
        deviations=(
            "the authors' code takes the mean over all positions of a batch, prompts and padding among them",
        ),
        evidence=("tests/core/test_unlearning.py", "tests/worlds/test_live_fit.py"),
    ),
    "gradient_ascent": Row(
        build=GradientAscent,
        title="Gradient ascent on the negative log-likelihood",
        paper="2404.05868",
        confidence="derived",
        at_anchor=lambda _: (0.0, 0.0),
        exempt=ONE_RESPONSE,
        shift_invariant=never,  # a single response: c(x) does not cancel
        data="unpaired",
        bounded="not bounded below",
        evidence=("tests/core/test_unlearning.py",),
    ),
    "simnpo": Row(
        build=SimNpo,
        title="Negative preference optimisation without a reference",
        paper="2410.07163",
        confidence="recalled",
        variants=({"gamma": 0.5, "retain": 1.0},),
        at_equal=lambda o, a, n: (2 / o.beta * log1p(exp(o.beta * a + o.gamma)), -o.retain * a),
        exempt=ONE_RESPONSE,
        shift_invariant=never,  # reads log-probs themselves
        length_invariant=always,
        data="unpaired",
        bounded="loss >= 0",
        evidence=("tests/core/test_unlearning.py",),
    ),
    "d2o": Row(
        build=D2o,
        title="Distributional dispreference optimisation",
        paper="2403.03419",
        confidence="paper's text",
        variants=({"alpha": 0.3},),
        at_anchor=lambda _: LOG2,
        exempt={"margin": "only one of several own samples would change places with the bad response"},
        shift_invariant=never,  # two anchors, each read on one side only
        data="unpaired",
        bounded="loss >= 0",
        limits=(
            Limit(
                parameters={},
                is_="dpo",
                anchors={"reference": "harmful"},
                words="alpha = beta",
                where="one sample and one reference",
                given=_pair_with_one_reference,
            ),
        ),
        evidence=("tests/core/test_unlearning.py", "d2o_negatives_only"),
    ),
}
