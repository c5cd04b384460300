"""Margin losses over labels or negatives: one equation for cross-entropy, LDR, InfoNCE, comp-sum losses and pairs.

    L = T^a Phi( u ),    u = sum_{k != y} exp( (c - D_k) / T ),    D_k = h_y - h_k

h are the scores of the labels of an example, or the similarities of an anchor with its positive y and its negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from equipoise.core.dims import PerCandidate, PerComparison
from equipoise.core.numerics import LARGEST_EXPONENT
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores

Margins: TypeAlias = Float[Tensor, "B J"]
Labels: TypeAlias = Int[Tensor, "B"]
Kept: TypeAlias = Bool[Tensor, "B J"]


@runtime_checkable
class Link(Protocol):
    """Link Phi of a margin loss: (log u [B], number of negatives n [B]) -> Phi(u) [B]."""

    def __call__(self, log_sum: PerComparison, count: PerComparison) -> PerComparison: ...


@dataclass(frozen=True, kw_only=True)
class PhiLink:
    """Comp-sum link Phi_tau(u) = ((1 + u)^(1 - tau) - 1) / (1 - tau), and log(1 + u) at tau = 1.

    tau   >= 0. 0: sum of exponentials u; 1: logistic loss (cross-entropy); in (1, 2): generalised cross-entropy with
          q = tau - 1; 2: mean absolute error 1 - softmax_y.

    Properties: continuous in tau, also at 1; increasing in u; for tau > 1 bounded by 1/(tau - 1). Below tau = 1 the
    exponent is clamped at 80, beyond which the value is constant instead of infinite.
    Raises: ValueError unless tau >= 0.

    Source: Mao et al. 2023 (2304.07288), RECALLED; checked numerically.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        not_negative(tau=self.tau)

    def __call__(self, log_sum: PerComparison, count: PerComparison) -> PerComparison:
        # log(1 + u); torch's softplus would be linear beyond 20
        log_whole, power = torch.logaddexp(log_sum, torch.zeros_like(log_sum)), 1 - self.tau
        if power == 0:
            return log_whole
        return torch.expm1((power * log_whole).clamp(max=LARGEST_EXPONENT)) / power


@dataclass(frozen=True, kw_only=True)
class LogMean:
    """Log-mean link log(u / n): the positive is left out of the sum, so the loss has no floor at 0 (iSogCLR)."""

    def __call__(self, log_sum: PerComparison, count: PerComparison) -> PerComparison:
        return log_sum - count.log()


LOGISTIC = PhiLink()


def label_margins(scores: Float[Tensor, "B K"], label: Labels) -> Margins:
    """Margins D_k = h_y - h_k of the K - 1 other labels, in their order, [B, K - 1].

    Raises ValueError for a label outside 0..K-1 and for fewer than two labels.
    """
    rows, count = scores.shape
    if count < 2:
        raise ValueError(f"a margin needs two labels or more, got {count}")
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < count:
        raise ValueError(f"labels must lie in 0..{count - 1}, got {int(label.min())}..{int(label.max())}")
    own = torch.zeros_like(scores, dtype=torch.bool).scatter(1, label[:, None], True)
    return (scores.gather(1, label[:, None]) - scores)[~own].view(rows, count - 1)


def margin_loss(
    margins: Margins,
    *,
    temperature: float | PerComparison = 1.0,
    offset: float = 0.0,
    link: Link = LOGISTIC,
    power: float = 0.0,
    kept: Kept | None = None,
) -> PerComparison:
    """The margin loss L = T^a Phi( sum_j exp((c - D_j)/T) ) of every example, [B].

    margins       [B, J] D_j, in units of the scores; carry the gradient.
    temperature   T > 0: a number, or one for each example, [B]. A tensor that carries a gradient receives it.
    offset        c, the margin that is asked for, in units of the scores.
    power         a: 0 as in cross-entropy and InfoNCE, 1 as in LDR, whose value is then in units of the scores.
    kept          [B, J] which negatives count; all by default. A row without any has u = 0.

    Raises ValueError for a temperature that is not positive.
    """
    t = torch.as_tensor(temperature, dtype=margins.dtype, device=margins.device)
    if not bool((t > 0).all()):
        raise ValueError("a temperature must be positive")
    exponents = (offset - margins) / (t[:, None] if t.ndim else t)
    count = torch.full_like(margins[:, 0], margins.shape[1])
    if kept is not None:
        exponents, count = exponents.masked_fill(~kept, -torch.inf), kept.sum(dim=1).to(margins)
    value = link(exponents.logsumexp(dim=1), count)
    return value if power == 0 else t**power * value


@dataclass(frozen=True, kw_only=True)
class MarginLoss:
    """Margin loss of one positive against all negatives: cross-entropy, LDR, InfoNCE, GCE, MAE and pair losses in one.

        L = T^a Phi( sum_{k >= 1} exp( (c - D_k)/T ) ),    D_k = h_0 - h_k

    Symbols:
    h             `scores.logp` [B, K], any real scores: log-probs, logits, similarities. Column 0 is the label or the
                  positive, the others are the other labels or the negatives. Only differences count.
    temperature   T > 0, in units of the scores.
    offset        c, the margin asked for, in units of the scores.
    link          Phi: `PhiLink(tau=...)` or `LogMean()`.
    power         a >= 0.

    Gradient: through all columns of h.
    Properties: T = 1, c = 0, tau = 1 is cross-entropy over the columns; a = 1, tau = 1 is LDR(T, c) + T log K; T fixed,
    a = 0 is InfoNCE; tau in (1, 2) with the factor 1 is generalised cross-entropy, tau = 2 mean absolute error. With
    K = 2 and tau = 1 it is the logistic loss of a pair: DPO's without reference. Metric `margin`: the smallest D_k.
    Raises: ValueError for parameters out of range.

    Source: DERIVED as the common form of 2112.14869, 2012.09740, 2305.11965 and 2304.07288; see those methods.
    """

    temperature: float = 1.0
    offset: float = 0.0
    link: Link = LOGISTIC
    power: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(group=True)

    def __post_init__(self) -> None:
        positive(temperature=self.temperature)
        not_negative(power=self.power)

    def __call__(self, scores: Scores) -> Losses:
        return self.of_margins(scores.logp[:, :1] - scores.logp[:, 1:])

    def of_margins(self, margins: Margins) -> Losses:
        """The same loss of margins D [B, J]."""
        value = margin_loss(
            margins, temperature=self.temperature, offset=self.offset, link=self.link, power=self.power
        )
        return Losses(value, margin=margins.amin(dim=1))


def with_label_first(scores: PerCandidate, label: Labels) -> Scores:
    """Scores of a labelled example: its label in column 0, the other labels behind it in their order."""
    own = scores.gather(1, label[:, None])
    return Scores(logp=torch.cat([own, own - label_margins(scores, label)], dim=1))
