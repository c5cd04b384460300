"""Losses of other trainers as our methods: the same formula, with the parameters renamed where papers and code differ.

Formulas were read in the trainers' sources. Their beta is the temperature of the log-ratio, as here; of IPO it is our
tau, of the hinge loss our gamma.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equipoise.connect.meanings import ImportFailed, Translation, number, short

WITH_BETA = {
    "nca_pair": "nca_pair",
    "bco_pair": "bco_pair",
    "apo_zero": "apo_zero",
    "apo_down": "apo_down",
    "sigmoid_norm": "dpo_norm",
}
WITH_SMOOTHING = {"aot": "aot", "aot_pair": "aot", "aot_unpaired": "aot_unpaired", "exo_pair": "exo_pair"}
DIVERGENCES = {
    "forward_kl": "f_dpo_forward_kl",
    "js_divergence": "f_dpo_js",
    "alpha_divergence": "f_dpo_alpha",
}
SAMPLED = (
    "`sppo_hard` writes its own responses and needs an oracle (--oracle); on recorded pairs there is no such method, "
    "ipo is the nearest"
)


def pair_loss(t: Translation, name: str, beta: float, smoothing: float, of: str) -> None:
    """One loss of TRL's DPO trainer (LLaMA-Factory and Axolotl call the same code) as a method.

    beta, smoothing   their `beta` and `label_smoothing`

    Raises ImportFailed for a name that is no such loss.
    """
    if name == "sigmoid":
        _sigmoid(t, beta, smoothing, of)
    elif name in WITH_BETA:
        t.choose(WITH_BETA[name], of, beta=beta)
    elif name in WITH_SMOOTHING:
        t.choose(WITH_SMOOTHING[name], of, beta=beta, smoothing=smoothing or None)
    elif name == "hinge":
        t.choose("hinge_norm", of, gamma=beta)
    elif name == "ipo":  # they average log-probs over tokens; with sums it is `ipo`
        t.choose("ipo_mean", of, tau=beta)
        t.notes.append(
            "their IPO averages log-probs over tokens, which is ipo_mean here; the paper's sum is ipo"
        )
    elif name == "robust":
        _robust(t, beta, smoothing, of)
    elif name == "discopop":
        t.choose("discopop", of, beta=beta, temperature=number(t.take("discopop_tau", default=0.05)))
    elif name == "sppo_hard":
        t.choose("sppo_hard", of, eta=1 / beta)
        t.lack(of, SAMPLED)
    elif name == "sft":
        t.choose("sft", of)
    elif name in ("kto", "kto_pair"):
        t.choose("kto", of, beta=beta)
        t.notes.append("kto reads single responses; pairs are split into two")
    else:
        raise ImportFailed(
            f"{t.source} loss {short(name)!r} has no method here; `equipoise methods` lists what there is"
        )


def _sigmoid(t: Translation, beta: float, smoothing: float, of: str) -> None:
    if smoothing:
        t.choose("cdpo", of, beta=beta, smoothing=smoothing)
        t.notes.append(
            "label_smoothing of the sigmoid loss is cdpo; TRL from 1.0 on ignores it there, which is dpo"
        )
    else:
        t.choose("dpo", of, beta=beta)


def _robust(t: Translation, beta: float, smoothing: float, of: str) -> None:
    if smoothing:
        t.choose("rdpo", of, beta=beta, flip=smoothing)
    else:
        t.choose("dpo", of, beta=beta)
        t.notes.append("robust without label_smoothing is dpo")


def mixture(t: Translation, losses: Sequence[str], weights: Sequence[float], beta: float, of: str) -> None:
    """A weighted sum of losses: sigmoid with likelihood of the chosen answer is `irpo`; others do not exist."""
    named = dict(zip(losses, weights, strict=True))
    if named.keys() == {"sigmoid", "sft"}:
        t.choose("irpo", of, beta=beta, alpha=named["sft"] / named["sigmoid"])
        if named["sigmoid"] != 1:
            t.notes.append(
                f"the whole loss is divided by the sigmoid's weight, {named['sigmoid']:g}: adapt train.lr"
            )
        return
    first = max(named, key=lambda name: named[name])
    t.lack(of, f"only sigmoid and sft can be summed (irpo); {first}, the heaviest, is taken alone")
    pair_loss(t, first, beta, 0.0, of)


def with_likelihood(t: Translation, weight: Any, of: str) -> None:
    """Add `weight` times the likelihood of the chosen answer, per token, to the loss that is chosen."""
    amount = number(weight or 0)
    if not amount:
        return
    sums = {"dpo": "irpo", "simpo": "cpo_simpo", "dpo_reference_free": "cpo"}
    if t.method in sums:
        t.method = sums[t.method]
        t.put("objective.alpha", amount, of)
        t.notes.append(f"{of} is the term alpha of {t.method}")
    else:
        t.lack(f"{of}: {short(weight)}", f"{t.method} has no likelihood term; irpo and cpo_simpo have one")


def divergence(t: Translation, kind: Any, coefficient: Any, beta: float, of: str) -> None:
    """f-DPO: another divergence to the reference than the reverse KL."""
    name = str(kind)
    if name in ("reverse_kl", "None"):
        return
    if name not in DIVERGENCES or t.method != "dpo":
        t.lack(f"{of}: {short(kind)}", f"divergences of dpo: reverse_kl, {', '.join(DIVERGENCES)}")
        return
    alpha = number(coefficient) if name == "alpha_divergence" else None
    t.choose(DIVERGENCES[name], of, beta=beta, alpha=alpha)


def simpo(t: Translation, beta: float, gamma: float, likelihood: float, of: str) -> None:
    """SimPO as three trainers write it: sigmoid(beta * difference - gamma), perhaps with CPO's likelihood term."""
    method, alpha = ("cpo_simpo", likelihood) if likelihood else ("simpo", None)
    t.choose(method, of, beta=beta, gamma=gamma, alpha=alpha)
