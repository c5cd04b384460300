"""Held-out figures of a reward model: accuracy, log-loss and calibration, with intervals clustered by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar

from equipoise.core.intervals import clustered_mean, clustered_share
from equipoise.reward_models.losses import preference_loss
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.pairs import LabelledPair
from equipoise.reward_models.read import pair_logits, position_bias

Numbers = npt.NDArray[np.float64]
BINS = 10


def held_out(model: RewardModel, pairs: Sequence[LabelledPair], tokens: int = 8192) -> dict[str, Any]:
    """Figures of the pairs, for each attribute; of several, those of the first attribute stand on top as well.

    accuracy     share of the pairs whose label says something (p is not 1/2) that the model ranks as labelled
    log_loss     mean of -p log P - (1 - p) log(1 - P), in nats; log 2 = 0.693 is a model that knows nothing
    calibration  see `calibration`
    """
    model.eval()
    logits = pair_logits(model, pairs, tokens).numpy()
    prob = np.array([pair.prob for pair in pairs])
    groups = [pair.group for pair in pairs]
    found = {
        name: _figures(logits[:, index], prob[:, index], groups)
        for index, name in enumerate(model.head.attributes)
    }
    first = next(iter(found.values()))
    figures = {"pairs": len(pairs), "prompts": len(set(groups)), **first}
    if len(found) > 1:
        figures["attributes"] = found
    if model.head.kind == "pair":
        figures["position_bias"] = position_bias(model, pairs, tokens)
    return figures


def _figures(logit: Numbers, prob: Numbers, groups: Sequence[str]) -> dict[str, Any]:
    known = ~np.isnan(prob)
    if not known.any():
        return {"accuracy": None, "log_loss": None, "calibration": None}
    logit, prob = logit[known], prob[known]
    clusters = [group for group, kept in zip(groups, known, strict=True) if kept]
    loss = preference_loss(torch.from_numpy(logit), torch.from_numpy(prob)).numpy()
    telling = prob != 0.5
    right = correct(logit[telling], prob[telling])
    among = [group for group, kept in zip(clusters, telling, strict=True) if kept]
    return {
        "accuracy": clustered_share(right, among) if telling.any() else None,
        "log_loss": clustered_mean(loss, clusters),
        "calibration": calibration(logit, prob) if telling.any() else None,
    }


def correct(logit: Numbers, prob: Numbers) -> Numbers:
    """1 where the model ranks a pair as it is labelled, 0 where not, 1/2 where it does not know."""
    agreed = np.sign(logit) == np.sign(prob - 0.5)
    return np.where(logit == 0, 0.5, agreed.astype(np.float64))


def calibration(logit: Numbers, prob: Numbers, bins: int = BINS) -> dict[str, float]:
    """Calibration error of preference probabilities, and what one temperature mends of it.

        ECE = sum_b (n_b / n) |accuracy_b - confidence_b|,   confidence sigma(|z|) in [1/2, 1], equal bins

    ece, brier        of the logits z as they are; the Brier score is the mean of (sigma(z) - p)^2
    temperature       T that minimises the mean log-loss of z / T; inf: the logits say nothing, and 1/2 is best
    ece_tempered, log_loss_tempered    at that temperature, chosen on these very pairs

    Pairs have one label orientation only, so correctness, and not the label, is compared with confidence. Pairs whose
    label is 1/2 say nothing of correctness and are in the Brier score and the temperature alone.
    """
    best = fitted_temperature(logit, prob)
    loss = preference_loss(torch.from_numpy(logit / best), torch.from_numpy(prob))
    return {
        "ece": _ece(logit, prob, bins),
        "brier": float(np.mean((_sigmoid(logit) - prob) ** 2)),
        "temperature": best,
        "ece_tempered": _ece(logit / best, prob, bins),
        "log_loss_tempered": float(loss.mean()),
    }


def fitted_temperature(logit: Numbers, prob: Numbers) -> float:
    """Temperature T in [1e-3, 1e6] that minimises the mean log-loss of z / T; the loss is convex in 1/T."""
    about, labels = torch.from_numpy(logit), torch.from_numpy(prob)

    def loss(inverse: float) -> float:
        return float(preference_loss(about * inverse, labels).mean())

    found = minimize_scalar(
        lambda log: loss(float(np.exp(log))), bounds=(np.log(1e-6), np.log(1e3)), method="bounded"
    )
    return float(np.exp(-found.x))


def _ece(logit: Numbers, prob: Numbers, bins: int) -> float:
    telling = prob != 0.5
    logit, prob = logit[telling], prob[telling]
    confidence, right = _sigmoid(np.abs(logit)), correct(logit, prob)
    place = np.clip(((confidence - 0.5) * 2 * bins).astype(np.intp), 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(logit))


def _sigmoid(logit: Numbers) -> Numbers:
    return torch.sigmoid(torch.from_numpy(logit)).numpy()
