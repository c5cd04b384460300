"""Exact counterparts of score-function surrogates: functions with gradients that the surrogates estimate.

A surrogate's value is meaningless, so finite differences cannot check it. In expectation its gradient is that of one
of these functions; the contract suite compares the two by enumerating every sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from equipoise.core.objectives.hybrid import Hypo, Sail
from equipoise.core.objectives.policy_gradient import Mpo, Reinforce, Rloo

PerArm: TypeAlias = Float[Tensor, "A"]
Pairs: TypeAlias = Float[Tensor, "A A"]


@dataclass(frozen=True, kw_only=True)
class Arms:
    """One prompt with A responses; everything but `logp` is constant.

    logp [A] log-probs of the policy, normalised; reward [A]; prefer [A, A] probability that a label prefers row to
    column; anchors name -> [A] log-probs.
    """

    logp: PerArm
    reward: PerArm
    prefer: Pairs
    anchors: Mapping[str, PerArm]

    def value(self) -> Tensor:
        """E_pi R."""
        return self.logp.exp() @ self.reward

    def kl(self, anchor: str) -> Tensor:
        """KL(pi || anchor)."""
        return self.logp.exp() @ (self.logp - self.anchors[anchor])

    def fit(self, beta: float) -> Pairs:
        """log sigma(beta [lr(row) - lr(column)]), the log-likelihood of "row beats column"."""
        ratio = self.logp - self.anchors["reference"]
        return logsigmoid(beta * (ratio[:, None] - ratio))


def regularised_value(objective: Reinforce | Rloo, arms: Arms) -> Tensor:
    """-( E_pi R - tau KL(pi||pi_ref) )"""
    return objective.tau * arms.kl("reference") - arms.value()


def magnetic_value(objective: Mpo, arms: Arms) -> Tensor:
    """-( E_pi R - alpha KL(pi||pi_m) - (1/eta) KL(pi||pi_t) )"""
    away = arms.logp if objective.real_time else arms.anchors["previous"]  # E_pi log(pi_t/pi_m), as sampled
    pull = objective.alpha * (arms.logp.exp() @ (away - arms.anchors["magnet"]))
    return pull + arms.kl("previous") / objective.eta - arms.value()


def hybrid_loss(objective: Hypo, arms: Arms) -> Tensor:
    """DPO on uniform pairs, plus lam KL(pi||pi_ref)"""
    return objective.lam * arms.kl("reference") - (arms.prefer * arms.fit(objective.beta)).mean() * 2


def self_made_loss(objective: Sail, arms: Arms) -> Tensor:
    """E[-log sigma(u)] over pairs from pi and their labels; the weights scale the gradient through each"""
    fit = arms.fit(objective.beta)
    probs = arms.logp.exp()
    pair = _partly(probs[:, None] * probs, objective.generation)
    label = _partly(fit.exp(), objective.preference) if objective.preference else arms.prefer
    return -2 * (pair * label * fit).sum()


def _partly(value: Tensor, share: float) -> Tensor:
    """The value, with its gradient scaled by `share`."""
    return share * value + (1 - share) * value.detach()
