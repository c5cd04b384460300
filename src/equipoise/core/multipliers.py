"""Lagrange multipliers of constraints on mean scores (constrained RLHF): squashed weights, and their gradient step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Form = Literal["at_least", "equal"]
LEAST_KL = 0.01  # share of the whole that the KL term keeps, where every weight is near 1


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """Lagrange multipliers of C constraints on mean scores, E r_c >= theta_c or E r_c = theta_c.

        w_c = sigmoid(mu_c)  for "at_least",   tanh(mu_c)  for "equal"
        lambda_c = w_c / max( C - sum_c w_c, C/100 )

    The policy maximises (C - sum_c w_c)(-KL) + sum_c w_c E r_c, which is -KL + sum_c lambda_c E r_c up to a factor; the
    multipliers minimise sum_c w_c (E r_c - theta_c) by gradient steps with momentum.

    mu         [C] unsquashed multipliers; 0 to begin with.
    velocity   [C] of the momentum.
    form       "at_least": w in (0, 1), an inequality. "equal": w in (-1, 1), which also pushes a score down.

    Source: Moskovitz et al. 2023 (2310.04373), checked against the authors' code; the floor of the KL term is ours.
    """

    mu: Floats
    velocity: Floats
    form: Form = "at_least"

    @classmethod
    def new(cls, count: int, form: Form = "at_least") -> Multipliers:
        return cls(mu=np.zeros(count), velocity=np.zeros(count), form=form)

    @property
    def weights(self) -> Floats:
        """w, [C]."""
        return np.tanh(self.mu) if self.form == "equal" else (1 + np.tanh(self.mu / 2)) / 2

    @property
    def relative(self) -> Floats:
        """lambda, [C]: the scores' weights where the KL divergence has weight 1."""
        count = len(self.mu)
        return self.weights / max(count - float(self.weights.sum()), LEAST_KL * count)

    def moved(self, shortfall: Floats, *, rate: float, momentum: float = 0.1) -> Multipliers:
        """After one step on shortfall [C] = theta - E r: up where a constraint is violated, down where it is slack.

        v <- momentum v + w'(mu) shortfall,    mu <- mu + rate v
        """
        w = self.weights
        slope = 1 - w**2 if self.form == "equal" else w * (1 - w)
        velocity = momentum * self.velocity + slope * shortfall
        return replace(self, mu=self.mu + rate * velocity, velocity=velocity)
