"""Optimism and pessimism: DPO plus a bonus or penalty on the likelihood of a third response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import softplus

from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores

LARGEST_LOG_RATIO = 500.0  # nats


def _with_third(scores: Scores, beta: float, weight: float) -> Losses:
    """softplus(-beta [lr(y0) - lr(y1)]) + weight * lr(y2), the last lr clipped to +-500."""
    ratio = scores.log_ratio("reference")
    margin = beta * (ratio[:, 0] - ratio[:, 1])
    third = ratio[:, 2].clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return Losses(softplus(-margin) + weight * third, margin=margin)


@dataclass(frozen=True, kw_only=True)
class Xpo:
    """Exploratory preference optimisation: DPO plus a reward for moving away from the sampler of the third response.

        L = softplus(-beta [lr(y0) - lr(y1)]) + alpha lr(y2),    lr(y) = log pi(y) - log pi_ref(y)

    Symbols:
    y0, y1   winner and loser among a sample of pi_t and one of the sampler; log-probs summed over tokens.
    y2       the exploration sample, y ~ pi_ref in theory.
    beta     inverse strength of the implicit reward, > 0.
    alpha    strength of optimism, >= 0. The PLUS sign LOWERS the likelihood of y2.

    Gradient: through pi only. lr(y2) stands for log pi(y2), from which it differs by a constant, and is clipped to
    +-500 nats. alpha = 0 is DPO.
    Properties: E_{y2 ~ pi_ref} lr(y2) = -KL(pi_ref||pi): the term rewards leaving pi_ref, and at pi = pi_ref its
    expected gradient is zero. Mean over the pairs at hand, not the paper's sum over all rounds. Equals optimistic `Vpo`
    with alpha = alpha_VPO beta.
    Raises: ValueError for parameters out of range.

    Source: Xie et al. 2024 (2405.21046), Algorithm 1; the sign checked against TRL and OAT.
    """

    beta: float = 0.1
    alpha: float = 1e-5
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 3
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        return _with_third(scores, self.beta, self.alpha)


@dataclass(frozen=True, kw_only=True)
class Vpo:
    """Value-incentivised preference optimisation: the reward fit is biased to high (or low) optimal value.

        L = softplus(-beta [lr(y0) - lr(y1)]) + s alpha beta lr(y2),    s = +1 optimistic, -1 pessimistic

    Symbols:
    y0, y1       preferred and dispreferred response; lr(y) = log pi(y) - log pi_ref(y), summed over tokens.
    y2           a sample of the calibration policy pi_cal: online pi_ref, offline the chosen response itself.
    beta         inverse strength of the implicit reward, > 0.
    alpha        weight of the optimal value, >= 0.
    optimistic   True for online data, False for offline data.

    Gradient: through pi only.
    Properties: For a reward r with E_{pi_cal} r = 0 the optimal value max_pi E_pi r - beta KL(pi||pi_ref) is -beta
    E_{pi_cal} lr, so L is the negative log-likelihood minus s alpha times that value. The log-ratio of y2 is clipped to
    +-500 nats and differs from log pi(y2) by a constant. alpha = 0 is DPO; optimistic with pi_cal = pi_ref it is `Xpo`;
    pessimistic with y2 = y0 it is DPO + alpha beta times the likelihood loss of the chosen response.
    Raises: ValueError for parameters out of range.

    Source: Cen et al. 2024 (2405.19320); the direct losses are DERIVED from the reward-level objective.
    """

    beta: float = 0.1
    alpha: float = 1e-4
    optimistic: bool = True
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 3
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        sign = 1.0 if self.optimistic else -1.0
        return _with_third(scores, self.beta, sign * self.alpha * self.beta)
