"""Coverage and KL divergence of a policy from its reference, from log-ratios of samples.

a = log pi(y|x) - log pi_ref(y|x) in nats, u = exp(a).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from equipoise.core.intervals import POSITIVE, clustered_mean
from equipoise.play.state import Floats


def kl_estimates(ratio: Floats, prompts: Sequence[Hashable]) -> dict[str, Any]:
    """Estimates of KL(pi || pi_ref) in nats from samples of pi, each with its interval, clustered by prompt.

        k1 = a            unbiased, of any sign
        k2 = a^2/2        biased, at least 0
        k3 = e^-a - 1 + a unbiased, at least 0; of infinite variance where pi_ref has mass that pi hardly samples

    bias  mean of k2 - k1: what the biased one adds here.
    """
    k1, k2, k3 = ratio, np.square(ratio) / 2, np.expm1(-ratio) + ratio
    return {
        "k1": clustered_mean(k1, prompts),
        "k2": clustered_mean(k2, prompts, bounds=POSITIVE),
        "k3": clustered_mean(np.maximum(k3, 0.0), prompts, bounds=POSITIVE),
        "bias": clustered_mean(k2 - k1, prompts),
    }


def concentrability(ratio: Floats) -> dict[str, float]:
    """Coverage of pi by pi_ref, from samples of pi: how much of what pi writes its reference hardly writes.

    largest, high   the largest log-ratio and its 99 % quantile, nats: a lower bound of the logarithm of the
                    single-policy concentrability max u
    chi_square      E_pi[u] - 1, at least 0 in expectation; from few samples a lower bound for practical purposes
    """
    return {
        "largest": float(ratio.max()),
        "high": float(np.quantile(ratio, 0.99)),
        "chi_square": float(np.exp(np.minimum(ratio, 600.0)).mean() - 1),
    }


def effective_samples(ratio: Floats) -> float:
    """Effective sample size (sum u)^2 / sum u^2 of samples of pi_ref that stand for pi; n where both are one policy.

    It does not change with a constant factor of u.
    """
    weight = np.exp(ratio - ratio.max())
    return float(weight.sum() ** 2 / np.square(weight).sum())
