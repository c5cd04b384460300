"""Contrastive losses of unit embeddings: penalties, hard negatives, uniformity, tolerance, individual temperatures."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import not_negative, positive

Negatives: TypeAlias = Float[Tensor, "B J"]
Seen: TypeAlias = Bool[Tensor, "B"]
Kept: TypeAlias = Bool[Tensor, "B J"]
Embeddings: TypeAlias = Float[Tensor, "N D"]

LONGEST_STEP = 3.0  # clip of a temperature's gradient, as in the authors' code


def relative_penalty(similarities: Negatives, temperature: float | PerComparison) -> Negatives:
    """Relative penalty r_j = softmax_j( s_j / tau ) of the negatives of each anchor, [B, J]; rows sum to 1.

    The gradient of InfoNCE on a negative is (P/tau) r_j with P the probability that all negatives take together: r says
    how the pressure is shared out, and its entropy grows with tau.

    Source: Wang and Liu 2021 (2012.09740), a detailed summary.
    """
    t = torch.as_tensor(temperature, dtype=similarities.dtype, device=similarities.device)
    return (similarities / (t[:, None] if t.ndim else t)).softmax(dim=1)


def hardest(similarities: Negatives, share: float) -> Kept:
    """Hard negatives: which similarities are in the upper `share` of their anchor's, [B, J]; at least one.

    Raises ValueError unless 0 < share <= 1. Source: Wang and Liu 2021 (2012.09740), a detailed summary.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of hard negatives must lie in (0, 1], got {share!r}")
    keep = max(1, round(share * similarities.shape[1]))
    least = similarities.detach().topk(keep, dim=1).values[:, -1:]
    return similarities.detach() >= least


def uniformity(embeddings: Embeddings, t: float = 2.0) -> float:
    """Uniformity -log E exp( -t |f(x) - f(y)|^2 ) over pairs of different examples; larger: more evenly spread.

    embeddings   [N, D] of unit length. Raises ValueError for fewer than two.
    """
    squares = torch.pdist(_several(embeddings)).square()
    return float(log(len(squares)) - torch.logsumexp(-t * squares, dim=0))


def tolerance(embeddings: Embeddings, label: Tensor) -> float:
    """Tolerance E f(x).f(y) over pairs of different examples of one class; nan where no class has two."""
    same = label[:, None] == label[None, :]
    same.fill_diagonal_(False)
    return float((_several(embeddings) @ embeddings.T)[same].mean())


def _several(embeddings: Embeddings) -> Embeddings:
    if len(embeddings) < 2:
        raise ValueError("a statistic of pairs needs two embeddings or more")
    return embeddings


@dataclass(frozen=True, kw_only=True)
class OwnTemperatures:
    """Individual temperatures of contrastive anchors (iSogCLR): the dual of a worst case over a KL ball of radius rho.

        F = (1/n) sum_i tau_i log E_neg exp( h_i / tau_i ) + tau_i rho,    h_i = s_neg - s_pos,  tau_i >= tau_min

        E_i   <- (1 - g) E_i + g mean_neg exp( s_neg / tau_i )             at the first visit: the batch's value
        L_i   = mean_neg( w s_neg ) - s_pos,    w = exp( s_neg / tau_i ) / E_i  without gradient
        G_i   = log E_i + rho - mean_neg( w s_neg / tau_i ), clipped to +-3
        u_i   <- (1 - b) u_i + b G_i,    tau_i <- clip( tau_i - eta u_i, tau_min, tau_max )

    rho       radius > 0; larger radii give smaller temperatures, and KL(softmax(s_neg/tau_i) || uniform) = rho at rest.
    average   g in (0, 1].       momentum   b in (0, 1].       rate   eta > 0.
    start     tau of an example at its first visit.            low, high   bounds of tau.

    The positive's similarity cancels in w and G. E is kept as its logarithm: small temperatures do not overflow.
    Raises ValueError for parameters out of range.

    Source: Qiu et al. 2023 (2305.11965), checked against the authors' code; the fixed point is DERIVED.
    """

    rho: float = 0.4
    average: float = 0.8
    momentum: float = 0.5
    rate: float = 0.03
    start: float = 0.1
    low: float = 0.05
    high: float = 1.0

    def __post_init__(self) -> None:
        positive(rho=self.rho, rate=self.rate, low=self.low)
        for name, value in (("average", self.average), ("momentum", self.momentum)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {value!r}")
        if not self.low <= self.start <= self.high:
            raise ValueError(f"start must lie in [low, high] = [{self.low}, {self.high}], got {self.start!r}")

    def averaged(
        self,
        negatives: Negatives,
        temperature: PerComparison,
        log_mean: PerComparison,
        seen: Seen,
    ) -> PerComparison:
        """log E of each anchor after one batch, from log E [B], which counts only where `seen`; without gradient."""
        new = torch.logsumexp(negatives.detach() / temperature[:, None], dim=1) - log(negatives.shape[1])
        if self.average == 1:
            return new
        old = log_mean + log(1 - self.average)
        return torch.where(seen, torch.logaddexp(old, new + log(self.average)), new)

    def loss(
        self,
        positive: PerComparison,
        negatives: Negatives,
        temperature: PerComparison,
        log_mean: PerComparison,
    ) -> PerComparison:
        """L of each anchor, [B]: its gradient is that of F's summand at the running E; its value means nothing."""
        w = torch.exp(negatives.detach() / temperature[:, None] - log_mean[:, None])
        return (w * negatives).mean(dim=1) - positive

    def slope(
        self, negatives: Negatives, temperature: PerComparison, log_mean: PerComparison
    ) -> PerComparison:
        """G = dF_i/dtau_i of each anchor, [B], not clipped."""
        exponents = negatives.detach() / temperature[:, None]
        return log_mean + self.rho - (torch.exp(exponents - log_mean[:, None]) * exponents).mean(dim=1)

    def moved(
        self, temperature: PerComparison, velocity: PerComparison, slope: PerComparison
    ) -> tuple[PerComparison, PerComparison]:
        """(tau, u) after a step on slopes [B]."""
        u = (1 - self.momentum) * velocity + self.momentum * slope.clamp(-LONGEST_STEP, LONGEST_STEP)
        return (temperature - self.rate * u).clamp(self.low, self.high), u


def resting_temperature(
    differences: Negatives, rho: float, low: float = 1e-3, high: float = 100.0, steps: int = 200
) -> PerComparison:
    """The temperature at which KL( softmax(h / tau) || uniform ) = rho, for each row h [B, J], by bisection.

    KL falls with tau. A row whose KL stays below rho down to `low` gets `low`: its temperature falls to the floor.
    """
    not_negative(rho=rho)
    bottom = torch.full_like(differences[:, 0], log(low))
    top = torch.full_like(bottom, log(high))
    for _ in range(steps):
        middle = (bottom + top) / 2
        p = relative_penalty(differences, middle.exp())
        kl = log(p.shape[1]) + torch.special.xlogy(p, p).sum(dim=1)
        bottom, top = torch.where(kl > rho, middle, bottom), torch.where(kl > rho, top, middle)
    return ((bottom + top) / 2).exp()
