"""Diffusion-DPO (2311.12908), DDIM-InPO (2503.18454) and NCP-DPO (2406.17636): one loss on three denoising errors.

Random pairs of digits, the brighter one preferred. Judged are samples: their brightness ("ink") and a classifier's
confidence in them; never the accuracy on pairs, which may rise while samples get worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from equipoise.claims.claim import Array, Claim, Evidence, Scale, Table, verdict
from equipoise.claims.images.runs import SEEDS, by_seed, column, course, settings_at
from equipoise.core.objectives import Dpo
from equipoise.methods.dpo import DPO
from equipoise.methods.index import get
from equipoise.worlds.diffusion.digits import TRAINING

STEPS: Mapping[Scale, int] = {"quick": 4, "full": 60}
BETA = 2000.0
PLAIN, INVERTED, PERCEIVED, IMITATED = "Diffusion-DPO", "DDIM-InPO", "NCP-DPO", "SFT on winners"
FORMS: Mapping[str, Mapping[str, str]] = {
    PLAIN: {},
    INVERTED: {"noise": "inversion"},
    PERCEIVED: {"space": "encoder"},
    IMITATED: {},
}
RAISED, LITTLE, KEPT = 0.05, 0.02, 0.01  # ink, ink, confidence

Arms = Mapping[str, Mapping[str, Array]]  # arm -> measure -> [seeds]; of the start under "start"


@cache
def arm(scale: Scale, name: str) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """(start, end): ink and confidence by seed."""
    method = replace(DPO, objective=Dpo(beta=BETA)) if name != IMITATED else get("sft")
    training = replace(TRAINING, steps=STEPS[scale])
    settings = settings_at(scale, **FORMS[name])
    runs = [course(scale, settings, method, training, seed) for seed in range(1, SEEDS[scale] + 1)]
    start, end = (
        {"ink": column(runs, "reward", round), "confidence": column(runs, "confidence", round)}
        for round in (0, -1)
    )
    return start, end


def arms(scale: Scale, *names: str) -> Arms:
    found = {name: arm(scale, name)[1] for name in names}
    return {"start": arm(scale, PLAIN)[0], **found}


def table(found: Arms, scale: Scale) -> Table:
    return by_seed(f"samples after {STEPS[scale]} steps", found)


def judge_plain(found: Arms, scale: Scale) -> Evidence:
    gain = found[PLAIN]["ink"] - found["start"]["ink"]
    imitated = found[IMITATED]["ink"] - found["start"]["ink"]
    lost = found["start"]["confidence"] - found[PLAIN]["confidence"]
    return Evidence(
        verdict=verdict(
            bool((gain >= RAISED).all()), [bool((imitated < gain / 2).all()), bool(lost.mean() <= 0.1)]
        ),
        summary=f"Ink rises by {gain.mean():.3f} ({gain.min():.3f} to {gain.max():.3f}), by SFT on winners "
        f"{imitated.mean():.3f}; confidence falls by {lost.mean():.3f}.",
        tables=(table(found, scale),),
    )


def judge_inverted(found: Arms, scale: Scale) -> Evidence:
    gain = found[INVERTED]["ink"] - found["start"]["ink"]
    plain = found[PLAIN]["ink"] - found["start"]["ink"]
    kept = found[INVERTED]["confidence"] - found[PLAIN]["confidence"]
    return Evidence(
        verdict=verdict(
            bool((gain >= LITTLE).all()), [bool(kept.mean() >= -KEPT), bool(gain.mean() >= plain.mean())]
        ),
        summary=f"Ink rises by {gain.mean():.3f} ({gain.min():.3f} to {gain.max():.3f}), by Diffusion-DPO in as many "
        f"steps {plain.mean():.3f}; confidence is {kept.mean():+.3f} of Diffusion-DPO's.",
        tables=(table(found, scale),),
    )


def judge_perceived(found: Arms, scale: Scale) -> Evidence:
    gain = found[PERCEIVED]["ink"] - found["start"]["ink"]
    more = found[PERCEIVED]["ink"] - found[PLAIN]["ink"]
    kept = found[PERCEIVED]["confidence"] - found[PLAIN]["confidence"]
    return Evidence(
        verdict=verdict(bool((gain >= RAISED).all()), [bool(more.mean() >= 0), bool(kept.mean() >= -KEPT)]),
        summary=f"Ink rises by {gain.mean():.3f} ({gain.min():.3f} to {gain.max():.3f}), {more.mean():+.3f} of "
        f"Diffusion-DPO's; confidence is {kept.mean():+.3f} of it.",
        tables=(table(found, scale),),
    )


SET = (
    "the rule follows reference runs of the same recipe and one run of each of these losses (seed 0, 100 and 200 "
    "steps), which had been seen; the seeds and the number of steps here had not."
)
SETTING = (
    f"Digits, denoiser of 160,000 parameters, random pairs with the brighter image preferred, {STEPS['full']} "
    f"steps of 32 pairs at a rate of 1e-4, beta {BETA:g}, 5 seeds of pairs, batches and noise; 192 samples from "
    "fixed noise. "
)

DIFFUSION_DPO = Claim(
    name="diffusion_dpo_ink",
    sentence="DPO on denoising errors aligns a diffusion model with recorded pairs.",
    paper="2311.12908",
    rule=f"{SETTING}Heart: samples gain at least {RAISED:g} of brightness on every seed. Also: on every seed SFT "
    "on the winners alone gains less than half of that; and confidence falls by at most 0.1 in the mean.",
    program=lambda scale: judge_plain(arms(scale, PLAIN, IMITATED), scale),
    set=SET,
)

DDIM_INPO = Claim(
    name="ddim_inpo_inversion",
    sentence="Noise by DDIM inversion, instead of random noise, aligns a diffusion model in fewer steps and keeps "
    "its quality.",
    paper="2503.18454",
    rule=f"{SETTING}Heart: samples gain at least {LITTLE:g} of brightness on every seed. Also: confidence is at "
    f"least Diffusion-DPO's minus {KEPT:g} in the mean; and the gain in as many steps is at least Diffusion-DPO's.",
    program=lambda scale: judge_inverted(arms(scale, PLAIN, INVERTED), scale),
    set=SET,
)

NCP_DPO = Claim(
    name="ncp_dpo_encoder",
    sentence="Denoising errors in the space of the denoiser's own encoder align a diffusion model better than "
    "errors of pixels.",
    paper="2406.17636",
    rule=f"{SETTING}Heart: samples gain at least {RAISED:g} of brightness on every seed. Also: in the mean the "
    f"gain is at least Diffusion-DPO's, and confidence at least its minus {KEPT:g}.",
    program=lambda scale: judge_perceived(arms(scale, PLAIN, PERCEIVED), scale),
    set=SET,
)
