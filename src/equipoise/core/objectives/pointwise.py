"""Pair losses that look at each response's implicit reward by itself: NCA, BCO on pairs, APO.

h(y) = beta [ log pi(y) - log pi_ref(y) ]. None of them is a function of h(y0) - h(y1) alone, so all change when a
number c(x) is added to the log-probs of a prompt. The diagnostic `margin` is h(y0) - h(y1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import sigmoid
from torch.nn.functional import softplus

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import positive
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class OfRewards(ABC):
    """A loss of (h(y0), h(y1)). Raises ValueError unless beta > 0."""

    beta: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)

    @abstractmethod
    def loss(self, h0: PerComparison, h1: PerComparison) -> PerComparison: ...

    def __call__(self, scores: Scores) -> Losses:
        h0, h1 = (self.beta * scores.log_ratio("reference")[:, :2]).unbind(dim=1)
        return Losses(self.loss(h0, h1), margin=h0 - h1)


@dataclass(frozen=True, kw_only=True)
class NcaPair(OfRewards):
    """Noise-contrastive alignment on pairs: the chosen response is data, both are noise.

        L = softplus(-h0) + softplus(h0)/2 + softplus(h1)/2

    Symbols:
    h0, h1   implicit rewards beta log-ratio of the chosen and the rejected response.

    Gradient: through pi only.
    Properties: The gradient on the chosen response changes sign at sigma(h0) = 2/3, so its likelihood stays bounded;
    that of the rejected one is pushed down indefinitely. 2 log 2 at pi = pi_ref.
    Raises: ValueError unless beta > 0.

    Source: Chen et al. 2024 (2402.05369), checked against TRL's "nca_pair"; the bound is DERIVED.
    """

    def loss(self, h0: PerComparison, h1: PerComparison) -> PerComparison:
        return softplus(-h0) + 0.5 * softplus(h0) + 0.5 * softplus(h1)


@dataclass(frozen=True, kw_only=True)
class BcoPair(OfRewards):
    """Binary classifier optimisation on pairs, without a reward shift.

        L = softplus(-h0) + softplus(h1)

    Symbols:
    h0, h1   implicit rewards beta log-ratio of the chosen and the rejected response.

    Gradient: through pi only.
    Properties: A separate classifier of each response: an upper bound of the DPO loss of the pair. 2 log 2 at
    pi = pi_ref.
    Raises: ValueError unless beta > 0.

    Source: Jung et al. 2024 (2404.04656), checked against TRL's "bco_pair".
    """

    def loss(self, h0: PerComparison, h1: PerComparison) -> PerComparison:
        return softplus(-h0) + softplus(h1)


@dataclass(frozen=True, kw_only=True)
class ApoZero(OfRewards):
    """Anchored preference optimisation, zero: chosen up, rejected down. For data better than the policy.

        L = sigma(-h0) + sigma(h1)

    Symbols:
    h0, h1   implicit rewards beta log-ratio of the chosen and the rejected response.

    Gradient: through pi only, at most beta/4 and fading on both sides: bounded in [0, 2], so that the influence of
    a (mislabelled) pair is limited.
    Properties: 1 at pi = pi_ref.
    Raises: ValueError unless beta > 0.

    Source: D'Oosterlinck et al. 2024 (2408.06266), eq. 7; checked against TRL's "apo_zero".
    """

    def loss(self, h0: PerComparison, h1: PerComparison) -> PerComparison:
        return sigmoid(-h0) + sigmoid(h1)


@dataclass(frozen=True, kw_only=True)
class ApoDown(OfRewards):
    """Anchored preference optimisation, down: both down, rejected more. For data worse than the policy.

        L = sigma(h0) + sigma(h1 - h0)

    Symbols:
    h0, h1   implicit rewards beta log-ratio of the chosen and the rejected response.

    Gradient: through pi only.
    Properties: At pi = pi_ref the two pulls on the chosen response cancel exactly and the rejected one is pushed down;
    from then on the chosen one falls too. Bounded in [0, 2]; 1 at pi = pi_ref.
    Raises: ValueError unless beta > 0.

    Source: D'Oosterlinck et al. 2024 (2408.06266), eq. 8; checked against TRL's "apo_down".
    """

    def loss(self, h0: PerComparison, h1: PerComparison) -> PerComparison:
        return sigmoid(h0) + sigmoid(h1 - h0)
