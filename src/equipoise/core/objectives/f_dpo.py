"""f-DPO: the logistic loss with the implicit reward of any divergence, beta f'(pi/pi_ref)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from equipoise.core import divergence
from equipoise.core.objectives.base import positive
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores

Link = Callable[[Tensor], Tensor]


def paper_jensen_shannon(log_u: Tensor) -> Tensor:
    """log(2u/(1 + u)): the paper's generator is twice the one whose divergence is at most log 2."""
    return 2 * divergence.JENSEN_SHANNON.slope(log_u)


@dataclass(frozen=True, kw_only=True)
class FDpo:
    """f-DPO for any convex f: DPO's regulariser KL(pi||pi_ref) becomes D_f(pi||pi_ref) = E_ref f(u), u = pi/pi_ref.

        L = softplus(-m),    m = beta f'(u(y0)) - beta f'(u(y1)),    log u = log-ratio to the reference, summed

    Symbols:
    link    f' as a function of log u. The generators of `core.divergence` have it as their `slope`; constants drop out.
    beta    weight of the divergence, > 0.

    Gradient: through pi only.
    Properties: Under Bradley-Terry labels with reward r and full support the minimiser satisfies f'(pi/pi_ref) = r/beta
    + c(x). log 2 at pi = pi_ref. f' must rise everywhere and have no lower bound, else responses of probability 0 are
    optimal and the reward is not identifiable from the policy: chi-square and total variation are refused.
    Raises: ValueError for such a link and unless beta > 0.

    Source: Wang et al. 2023 (2309.16240), checked against the authors' code; derivatives DERIVED.
    """

    beta: float = 0.1
    link: Link = divergence.REVERSE_KL.slope
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR
    parameters: ClassVar[tuple[str, ...]] = ("beta",)

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        probe = self.link(torch.tensor([-79.0, -40.0, 0.0, 1.0], dtype=torch.float64))
        if not bool((probe.diff() > 0).all()):
            raise ValueError(
                f"f' must rise and have no lower bound; at log u = -79, -40, 0, 1 this link is {probe.tolist()}"
            )

    def __call__(self, scores: Scores) -> Losses:
        reward = self.beta * self.link(scores.log_ratio("reference"))
        m = reward[:, 0] - reward[:, 1]
        return Losses(softplus(-m), margin=m)


def ForwardKlDpo(*, beta: float = 0.1) -> FDpo:
    """f-DPO with the forward KL, f(u) = -log u: keeps mass on everything the reference writes.

        L = softplus(-m),    m = -beta/u(y0) + beta/u(y1),    u = pi/pi_ref

    Gradient: weights are those of DPO times 1/u: a chosen response far above the reference has no gradient, that of a
    vanishing rejected one explodes (the exponent -log u is cut at 80).
    Properties: The implicit reward is below 0. Clip gradients.

    Source: Wang et al. 2023 (2309.16240), checked against the authors' code.
    """
    return FDpo(beta=beta, link=divergence.FORWARD_KL.slope)


def JensenShannonDpo(*, beta: float = 0.1) -> FDpo:
    """f-DPO with the Jensen-Shannon divergence in the paper's scale, f(u) = u log u - (u + 1) log((u + 1)/2).

        L = softplus(-m),    m = beta log(2u(y0)/(1 + u(y0))) - beta log(2u(y1)/(1 + u(y1))),    u = pi/pi_ref

    Gradient: weights are those of DPO times 1/(1 + u): 1/2 at the reference, 1 for a vanishing rejected response, 0
    for a chosen one far above the reference.
    Properties: The implicit reward is below beta log 2.

    Source: Wang et al. 2023 (2309.16240), checked against the authors' code.
    """
    return FDpo(beta=beta, link=paper_jensen_shannon)


@dataclass(frozen=True, kw_only=True)
class AlphaDpo:
    """f-DPO with an alpha-divergence, between the reverse KL (alpha -> 0) and the forward one (alpha -> 1).

        L = softplus(-m),    m = beta f'(u(y0)) - beta f'(u(y1)),    f'(u) = (1 - u^-alpha)/alpha,    u = pi/pi_ref

    Symbols:
    alpha   in (0, 1), THE PAPER'S; some libraries store 1 - alpha.
    beta    weight of the divergence, > 0.

    Gradient: weights are those of DPO times u^-alpha, the exponent -alpha log u cut at 80.
    Properties: The implicit reward is below beta/alpha.
    Raises: ValueError for parameters out of range.

    Source: Wang et al. 2023 (2309.16240), checked against the authors' code.
    """

    beta: float = 0.1
    alpha: float = 0.5
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        divergence.alpha(self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        return FDpo(beta=self.beta, link=divergence.alpha(self.alpha).slope)(scores)
