"""Held-out figures of a reward model: accuracy, log-loss and calibration, with intervals clustered by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.core.calibration import confidences, ece, ranked_right
from equipoise.core.intervals import POSITIVE, clustered_mean, clustered_share
from equipoise.core.logistic import Floats, log_loss, sigmoid, slope
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.pairs import LabelledPair
from equipoise.reward_models.read import pair_logits, position_bias


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


def _figures(logit: Floats, prob: Floats, groups: Sequence[str]) -> dict[str, Any]:
    known = ~np.isnan(prob)
    if not known.any():
        return {"accuracy": None, "log_loss": None, "calibration": None}
    logit, prob = logit[known], prob[known]
    clusters = [group for group, kept in zip(groups, known, strict=True) if kept]
    telling = prob != 0.5
    right = ranked_right(logit[telling], prob[telling])
    among = [group for group, kept in zip(clusters, telling, strict=True) if kept]
    return {
        "accuracy": clustered_share(right, among) if telling.any() else None,
        "log_loss": clustered_mean(log_loss(logit, prob), clusters, bounds=POSITIVE),
        "calibration": calibration(logit, prob),
    }


def calibration(logit: Floats, prob: Floats) -> dict[str, float | None]:
    """Calibration error of preference probabilities sigma(z), and what one temperature mends of it.

    logit, prob       [N] z = logit of P(first beats second), in nats; label in [0, 1]
    ece, brier        of the logits z as they are (`core.calibration.ece`); mean of (sigma(z) - p)^2
    temperature       T that minimises the mean log-loss of z / T; None where no positive finite T is the best one
    ece_tempered, log_loss_tempered    at that temperature, chosen on these very pairs; None without it
    """
    sharpness = slope(logit, prob)
    fits = 0 < sharpness < np.inf
    return {
        "ece": ece(*confidences(sigmoid(logit), prob)),
        "brier": float(np.square(sigmoid(logit) - prob).mean()),
        "temperature": 1 / sharpness if fits else None,
        "ece_tempered": ece(*confidences(sigmoid(sharpness * logit), prob)) if fits else None,
        "log_loss_tempered": float(log_loss(sharpness * logit, prob).mean()) if fits else None,
    }
