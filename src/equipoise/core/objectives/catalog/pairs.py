"""Recorded pairs against a reference: losses of the log-ratio margin, with or without a likelihood term."""

from __future__ import annotations

from math import log, log1p

from equipoise.core.objectives.catalog import premises as given
from equipoise.core.objectives.catalog.row import LOG2, NO_LABEL, Limit, Row, always, never, softplus
from equipoise.core.objectives.contrastive import CplKl
from equipoise.core.objectives.hinge import HingeNorm
from equipoise.core.objectives.logistic import (
    AsymmetricRdpo,
    Cdpo,
    Dpo,
    DpoNorm,
    Odpo,
    OffsetDpo,
    Rdpo,
    RsoNorm,
)
from equipoise.core.objectives.margin_shapes import DiscoPop, ExoPair
from equipoise.core.objectives.regularised import FlexDpo, Irpo, Rpo
from equipoise.core.objectives.squared import Ipo, IpoMean
from equipoise.core.objectives.weighted import Wpo

ROWS: dict[str, Row] = {
    "dpo": Row(
        build=Dpo,
        title="Direct preference optimisation",
        paper="2305.18290",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        bounded="loss >= 0; margin without bound",
        limits=(
            Limit(
                parameters={},
                is_="dpo_reference_free",
                where="a reference that gives both responses one log-prob",
                given=given.even_reference,
            ),
        ),
        evidence=("tests/core/test_logistic.py", "tests/games/test_expectation.py", "spac_coverage"),
    ),
    "cpl_kl": Row(
        build=CplKl,
        title="Contrastive preference learning with a reference",
        paper="2310.13639",
        confidence="verified in code",
        variants=({"bias": 1.0},),
        at_anchor=lambda _: LOG2,
        shift_invariant=lambda o: o.bias == 1,
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={"bias": 1.0}, is_="dpo", other={"beta": 0.2}, words="bias = 1", times=""),),
        evidence=("tests/core/test_contrastive.py",),
    ),
    "cdpo": Row(
        build=Cdpo,
        title="Conservative DPO (label smoothing)",
        paper="",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        limits=(Limit(parameters={"smoothing": 0.0}, is_="dpo"),),
        bounded="loss >= H(smoothing); best margin log((1 - e)/e)",
        deviations=(
            "TRL ignores label_smoothing in its plain sigmoid loss and reads it in others only",
            "HALOs take 0.2 for the smoothing",
        ),
        evidence=("tests/core/test_logistic.py",),
    ),
    "ipo": Row(
        build=Ipo,
        title="Identity preference optimisation",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,
        bounded="loss >= 0; best margin 1/(2 tau)",
        deviations=("TRL and HALOs divide each log-ratio by its length under this name: ipo_mean here",),
        evidence=("tests/core/test_squared.py", "tests/games/test_expectation.py"),
    ),
    "ipo_mean": Row(
        build=IpoMean,
        title="Identity preference optimisation, per token",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,
        shift_invariant=never,  # a shift is divided by two different lengths
        length_invariant=always,
        bounded="loss >= 0; best margin 1/(2 tau) per token",
        limits=(
            Limit(parameters={}, is_="ipo", where="every response one token long", given=given.one_token),
        ),
        deviations=("the paper and OpenRLHF sum over tokens under the same name: ipo here",),
        evidence=("tests/core/test_squared.py",),
    ),
    "rdpo": Row(
        build=Rdpo,
        title="Robust DPO",
        paper="2403.00409",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        variants=({"flip": 0.4},),
        bounded="not bounded below; margin without bound",
        limits=(Limit(parameters={"flip": 0.0}, is_="dpo"),),
        deviations=("TRL calls it robust and the flip rate label_smoothing",),
        evidence=("tests/core/test_label_noise.py", "tests/agree/test_trl_losses.py", "rdpo_label_flips"),
    ),
    "rdpo_asymmetric": Row(
        build=AsymmetricRdpo,
        title="Robust DPO, flips that depend on the order shown",
        paper="2403.00409",
        confidence="derived",
        at_anchor=lambda _: LOG2,
        bounded="not bounded below; margin without bound",
        limits=(
            Limit(parameters={"flip": 0.2, "other": 0.2}, is_="rdpo", words="flip = other"),
            Limit(parameters={"flip": 0.0}, is_="dpo"),
        ),
        evidence=("tests/core/test_label_noise.py",),
    ),
    "dpo_offset": Row(
        build=OffsetDpo,
        title="DPO with a target margin",
        paper="2402.10571",
        confidence="recalled",
        at_anchor=lambda o: softplus(o.offset),
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={"offset": 0.0}, is_="dpo"),),
        evidence=("tests/core/test_target_margins.py",),
    ),
    "odpo": Row(
        build=Odpo,
        title="DPO with an offset from scores",
        paper="2402.10571",
        confidence="verified in code",
        data="rewards",
        exempt=NO_LABEL,
        reward_shift_invariant=True,
        bounded="loss >= 0; margin without bound",
        limits=(
            Limit(parameters={}, is_="dpo", where="scores that differ by 1", given=given.paid(1.0, 0.0)),
        ),
        evidence=("tests/core/test_target_margins.py",),
    ),
    "dpo_norm": Row(
        build=DpoNorm,
        title="Length-normalised DPO",
        paper="2411.15124",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        shift_invariant=never,  # a shift is divided by two different lengths
        length_invariant=always,
        bounded="loss >= 0; margin without bound",
        limits=(
            Limit(parameters={}, is_="dpo", where="every response one token long", given=given.one_token),
            Limit(
                parameters={"beta": 5.0},
                is_="dpo",
                other={"beta": 1.25},
                words="responses of n tokens, and beta n times DPO's",
                given=given.tokens(4),
            ),
        ),
        deviations=("TRL calls it sigmoid_norm",),
        evidence=("tests/core/test_identities.py", "tests/agree/test_trl_losses.py"),
    ),
    "rso_norm": Row(
        build=RsoNorm,
        title="RSO's sigmoid-norm loss",
        paper="2309.06657",
        confidence="paper's text",
        at_anchor=lambda _: LOG2,
        bounded="loss >= 0; margin without bound",
        limits=(
            Limit(parameters={"gamma": 0.2}, is_="dpo", other={"beta": 0.2}, words="gamma in beta's place"),
        ),
        evidence=("tests/core/test_identities.py",),
    ),
    "hinge_norm": Row(
        build=HingeNorm,
        title="RSO's hinge-norm loss",
        paper="2309.06657",
        confidence="verified in code",
        at_anchor=lambda _: 1.0,
        bounded="loss >= 0; best margin 1",
        limits=(
            Limit(
                parameters={},
                is_="hinge",
                where="a reference that gives both responses one log-prob",
                given=given.even_reference,
            ),
        ),
        deviations=("TRL calls it hinge, and gamma beta",),
        evidence=(
            "tests/core/test_hinge.py",
            "tests/agree/test_authors_losses.py",
            "tests/agree/test_trl_losses.py",
        ),
    ),
    "exo_pair": Row(
        build=ExoPair,
        title="Efficient exact optimisation, on pairs",
        paper="2402.00856",
        confidence="verified in code",
        at_anchor=lambda o: -LOG2 - 0.5 * (log(o.smoothing) + log1p(-o.smoothing)),
        variants=({"smoothing": 0.2},),
        bounded="loss >= 0; best margin log((1 - e)/e)",
        evidence=("tests/core/test_margin_shapes.py", "tests/agree/test_trl_losses.py"),
    ),
    "discopop": Row(
        build=DiscoPop,
        title="DiscoPOP, a discovered loss",
        paper="2406.08414",
        confidence="verified in code",
        at_anchor=lambda _: 0.5 * (LOG2 + 1),
        exempt={
            "first_order": "its slope at margin 0 is positive: the first step lowers the chosen response"
        },
        bounded="loss >= 0; margin without bound",
        evidence=("tests/core/test_margin_shapes.py", "tests/agree/test_trl_losses.py"),
    ),
    "rpo": Row(
        build=Rpo,
        title="Regularised preference optimisation",
        paper="2405.16436",
        confidence="verified in code",
        variants=({"eta": 0.5, "beta": 0.5},),
        exempt={"at_anchor": "the likelihood loss of the chosen response is added to log 2"},
        shift_invariant=never,  # depends on the chosen response separately
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={"eta": 0.0}, is_="dpo"),),
        deviations=(
            "TRL's former rpo_alpha, and a second release of the authors, take the token mean without beta: irpo here",
        ),
        evidence=(
            "tests/core/test_regularised.py",
            "tests/agree/test_authors_losses.py",
            "rpo_partial_coverage",
        ),
    ),
    "irpo": Row(
        build=Irpo,
        title="Iterative reasoning preference optimisation",
        paper="2404.19733",
        confidence="recalled",
        exempt={"at_anchor": "the likelihood loss of the chosen response is added to log 2"},
        shift_invariant=never,  # depends on the chosen response separately
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={"alpha": 0.0}, is_="dpo"),),
        deviations=(
            "the paper weighs the preference term: its alpha is the inverse of this one",
            "TRL (sigmoid and sft) takes the mean over all tokens of a batch, here over each response's",
        ),
        evidence=("tests/core/test_regularised.py", "tests/agree/test_trl_losses.py"),
    ),
    "flex_dpo": Row(
        build=FlexDpo,
        title="Flex-DPO, different weights for winner and loser",
        paper="2406.07327",
        confidence="paper's text",
        at_anchor=lambda _: LOG2,
        exempt={"margin": "it weighs winner and loser differently: turned round it is another number"},
        shift_invariant=never,  # the weights of winner and loser differ
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={"beta_n": 0.1}, is_="dpo", other={"beta": 0.1}, words="beta_p = beta_n"),),
        evidence=("tests/core/test_regularised.py", "three_d_properties"),
    ),
    "wpo": Row(
        build=Wpo,
        title="Weighted preference optimisation",
        paper="2406.11827",
        confidence="verified in code",
        exempt={"at_anchor": "log 2 times the pair's weight"},
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={}, is_="dpo", where="all weights 1", given=given.weighing_nothing),),
        deviations=("the authors' code cuts the product of a pair's two weights at 1; TRL does not",),
        evidence=("tests/core/test_weighted.py", "tests/agree/test_trl_losses.py"),
    ),
}
