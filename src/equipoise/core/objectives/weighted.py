"""Weights on pairs: WPO makes recorded pairs count as often as the policy would write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from equipoise.core.objectives.base import Objective
from equipoise.core.objectives.logistic import Dpo
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Wpo:
    """Weighted preference optimisation: any pair loss, times how likely the policy is to write both responses.

        L = w(y0) w(y1) L_base,    w(y) = exp( mean_t [ log pi(y_t) - log sum_v pi(v)^2 ] )

    base   the pair loss.
    w      a weight for each response, read from `Scores.weight` and detached there; `wpo_weight` computes it.

    sum_v pi(v)^2 is what a token drawn from the policy has for a probability on average, so that a response of the
    policy's own has a weight near 1 and one that it would hardly write a weight near 0. All weights 1 is the base
    loss. Raises ValueError where the batch carries no weights.

    Source: Zhou et al. 2024 (2406.11827), eq. 2 and its alignment; checked against TRL's `use_weighting`.
    """

    base: Objective = field(default_factory=Dpo)
    candidates: ClassVar[int] = 2
    weighted: ClassVar[bool] = True
    parameters: ClassVar[tuple[str, ...]] = ()

    @property
    def anchors(self) -> tuple[str, ...]:
        return self.base.anchors

    def __call__(self, scores: Scores) -> Losses:
        losses, weight = self.base(scores), scores.weights()[:, :2].prod(dim=1)
        return Losses(weight * losses.value, **losses.metrics, weight=weight)
