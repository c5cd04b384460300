"""KTO (2402.01306) in training: thumbs that are wrong, over beta, and thumbs of unequal numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, verdict
from equipoise.claims.intervals import Mean, mean_of
from equipoise.claims.small_models import line
from equipoise.claims.unpaired.kto import (
    BCO,
    CLEAN,
    FARTHEST,
    FLIPPED,
    KTO,
    LOSSES,
    MIXES,
    PLAIN,
    RATIOS,
    WRONG,
    draw,
    imbalanced,
    mislabelled,
    train,
    weighed,
)

BETAS = (
    0.5,
    2.0,
    6.0,
)  # at the first nothing saturates: log-ratios stay within 2/beta of the reference point
SATURATED = BETAS[1:]

Found = Mapping[
    tuple[float, str, str], Array
]  # beta, wrong thumbs, loss -> pairs ordered rightly [data sets]
Mixed = Mapping[tuple[tuple[int, int], float], Array]  # thumbs up and down, ratio -> the same


def run_wrong(scale: Scale) -> Evidence:
    copies, steps = {"quick": (8, 100), "full": (60, 300)}[scale]
    world = draw(copies)
    thumbs = {which: mislabelled(world, which) for which in WRONG}
    found = {
        (beta, which, loss): train(world, thumbs[which], make(beta), steps)[0]
        for beta in BETAS
        for which in WRONG
        for loss, make in LOSSES.items()
    }
    return judge_wrong(found)


def judge_wrong(found: Found) -> Evidence:
    gain: dict[tuple[float, str, str], Mean] = {
        (beta, which, other): mean_of(found[beta, which, KTO] - found[beta, which, other])
        for beta in BETAS
        for which in WRONG
        for other in (BCO, PLAIN)
    }
    ahead = all(gain[beta, FARTHEST, other].low > 0 for beta in SATURATED for other in (BCO, PLAIN))
    unhurt = all(gain[beta, CLEAN, other].high >= 0 for beta in SATURATED for other in (BCO, PLAIN))

    def told(which: str) -> str:
        return "; ".join(
            f"beta {beta:g} {gain[beta, which, BCO]} / {gain[beta, which, PLAIN]}" for beta in BETAS
        )

    return Evidence(
        verdict=verdict(ahead, (unhurt,)),
        summary="Pairs ordered rightly, KTO less BCO / less the logistic loss without a shift, the farthest "
        f"{FLIPPED:.0%} of the thumbs wrong: {told(FARTHEST)}. No thumb wrong: {told(CLEAN)}.",
        tables=(
            Table(
                f"pairs ordered rightly, means over {len(found[BETAS[0], CLEAN, KTO])} data sets",
                (
                    "beta",
                    "wrong thumbs",
                    *LOSSES,
                    "KTO less BCO",
                    "from",
                    "to",
                    "KTO less logistic",
                    "from",
                    "to",
                ),
                tuple(
                    (
                        beta,
                        which,
                        *(float(found[beta, which, loss].mean()) for loss in LOSSES),
                        *gain[beta, which, BCO],
                        *gain[beta, which, PLAIN],
                    )
                    for beta in BETAS
                    for which in WRONG
                ),
            ),
        ),
        panels=tuple(
            Panel(
                f"wrong thumbs: {which}",
                "beta",
                "pairs ordered rightly",
                tuple(
                    line(loss, BETAS, np.stack([found[beta, which, loss] for beta in BETAS], axis=1))
                    for loss in LOSSES
                ),
                log_y=False,
            )
            for which in (CLEAN, FARTHEST)
        ),
    )


WRONG_THUMBS = Claim(
    name="kto_wrong_thumbs",
    sentence="Since its value saturates, KTO is more robust to wrong thumbs than logistic losses.",
    paper="2402.01306",
    rule="Log-linear policies on 220 thumbs, the tenth with the largest |reward| wrong, the same data for "
    f"every loss. Heart: at beta {SATURATED[0]:g} and {SATURATED[1]:g}, where log-ratios reach the curve's "
    "flat parts, KTO orders more pairs of responses rightly than BCO and than the logistic loss without "
    "a shift, beyond the paired 95 % interval over data sets. Also: at these betas it does not order fewer, "
    "beyond the interval, where no thumb is wrong. Beta 0.5, where nothing saturates, wrong thumbs nearest to "
    "the reference point, and KTO with its reference point at 0 are shown and do not count.",
    program=run_wrong,
    set="a first rule asked at beta 0.5 alone, where nothing saturates, and was missed. That KTO is ahead at "
    "beta 2 and 6, and behind on clean thumbs, was seen on other seeds before this rule was set.",
)


def run_unequal(scale: Scale) -> Evidence:
    copies, steps = {"quick": (8, 100), "full": (60, 300)}[scale]
    world = draw(copies)
    thumbs = {mix: imbalanced(world, *mix) for mix in MIXES}
    return judge_unequal(
        {
            (mix, ratio): train(world, thumbs[mix], weighed(*mix, ratio), steps)[0]
            for mix in MIXES
            for ratio in RATIOS
        }
    )


def judge_unequal(found: Mixed) -> Evidence:
    rule = {
        (mix, ratio): mean_of(found[mix, ratio] - found[mix, mix[0] / mix[1]])
        for mix in MIXES
        for ratio in RATIOS[1:3]
    }
    told = ", ".join(
        f"{up} up, {down} down at {ratio:.3g} {gain}" for ((up, down), ratio), gain in rule.items()
    )
    return Evidence(
        verdict=verdict(all(gain.low > 0 for gain in rule.values())),
        summary=f"Pairs ordered rightly with weights by the rule of thumb, less with equal ones: {told}.",
        tables=(
            Table(
                "pairs ordered rightly by KTO, by desirable n_D / (undesirable n_U)",
                ("thumbs up", "down", *(f"{ratio:.3g}" for ratio in RATIOS)),
                tuple((*mix, *(float(found[mix, ratio].mean()) for ratio in RATIOS)) for mix in MIXES),
            ),
        ),
        panels=(
            Panel(
                "thumbs of unequal numbers",
                "desirable n_D / (undesirable n_U)",
                "pairs ordered rightly",
                tuple(
                    line(
                        f"{up} up, {down} down",
                        RATIOS,
                        np.stack([found[(up, down), r] for r in RATIOS], axis=1),
                    )
                    for up, down in MIXES
                ),
                log_y=False,
            ),
        ),
    )


UNEQUAL_THUMBS = Claim(
    name="kto_unequal_thumbs",
    sentence="Weights with desirable n_D / (undesirable n_U) between 1 and 4/3 make up for unequal numbers of "
    "thumbs.",
    paper="2402.01306",
    rule="Log-linear policies, 200 thumbs of one kind and 20 of the other. Heart: at ratios 1 and 4/3 more "
    "pairs of responses to one prompt are ordered rightly than with equal weights, beyond the paired 95 % "
    "interval over data sets, both ways. (An order within a prompt does not feel what all responses have in "
    "common.)",
    program=run_unequal,
)
