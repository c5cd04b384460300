"""Weighted preference optimisation: recorded pairs weighted by their probability under the policy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from jaxtyping import Bool
from torch import Tensor

from equipoise.core.dims import PerCandidate, PerPlace
from equipoise.core.objectives.base import Objective, require_pair_loss
from equipoise.core.objectives.logistic import Dpo
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


def wpo_weight(logp: PerPlace, collision: PerPlace, mask: Bool[Tensor, "B K T"]) -> PerCandidate:
    """w(y) = exp( mean_t [ log pi(y_t) - log sum_v pi(v)^2 ] ), without a gradient.

    logp        log-prob of each token of the response.
    collision   log sum_v pi(v|y_<t)^2 over the vocabulary, where the token is written: logsumexp(2z) - 2 logsumexp(z)
                of its logits z.
    mask        True where the response has a token.
    """
    return ((logp - collision) * mask).sum(dim=2).div(mask.sum(dim=2)).exp().detach()


class ResponseWeighting(Protocol):
    """An objective that says how responses are weighed by the policy as it stands."""

    def response_weight(
        self, logp: PerPlace, collision: PerPlace, mask: Bool[Tensor, "B K T"]
    ) -> PerCandidate:
        """[B, K] weights without a gradient; arguments as in `wpo_weight`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Wpo:
    """Weighted preference optimisation: any pair loss, times how likely the policy is to write both responses.

        L = w(y0) w(y1) L_base,    w(y) = exp( mean_t [ log pi(y_t) - log sum_v pi(v)^2 ] )

    Symbols:
    base   any loss of a labelled pair.
    w      a weight for each response, read from `Scores.response_weight`; a fit recomputes it at every step, by
           `wpo_weight`.

    Gradient: of the base loss; w is detached and recomputed as the policy moves.
    Properties: sum_v pi(v)^2 is the expected probability of a token sampled from the policy, so a response typical of
    the policy has a weight near 1 and an unlikely one a weight near 0. All weights 1 is the base loss.
    Raises: ValueError where the batch carries no weights.

    Source: Zhou et al. 2024 (2406.11827), eq. 2 and its alignment; checked against TRL's `use_weighting`.
    """

    base: Objective = field(default_factory=Dpo)
    candidates: ClassVar[int] = 2
    parameters: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        require_pair_loss(type(self).__name__, self.base)

    @property
    def anchors(self) -> tuple[str, ...]:
        return self.base.anchors

    @property
    def reads(self) -> Reads:
        return replace(self.base.reads, response_weights=True)

    def response_weight(
        self, logp: PerPlace, collision: PerPlace, mask: Bool[Tensor, "B K T"]
    ) -> PerCandidate:
        """w(y) of every response, `wpo_weight`."""
        return wpo_weight(logp, collision, mask)

    def __call__(self, scores: Scores) -> Losses:
        losses, weight = self.base(scores), scores.response_weights()[:, :2].prod(dim=1)
        return Losses(weight * losses.value, **losses.metrics, weight=weight)
