"""Contrastive preference learning (CPL): a policy's log-likelihood is the advantage of its own reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import softplus

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


def _loss(alpha: float, bias: float, chosen: PerComparison, rejected: PerComparison) -> Losses:
    """softplus(-m), m = alpha (chosen - bias rejected); the metric `margin` is the unbiased one."""
    return Losses(softplus(-alpha * (chosen - bias * rejected)), margin=alpha * (chosen - rejected))


def _check(alpha: float, bias: float) -> None:
    positive(alpha=alpha, bias=bias)
    if bias > 1:
        raise ValueError(f"bias must lie in (0, 1], got {bias!r}")


@dataclass(frozen=True, kw_only=True)
class Cpl:
    """Contrastive preference learning: a regret preference model read as a classifier of log-likelihoods.

        L = softplus(-[ alpha log pi(y0) - bias alpha log pi(y1) ]) - bc mean_k log pi(y_k)/|y_k|

    For control y is a segment and log pi(y) = sum_t log pi(a_t|s_t): under maximum-entropy RL of temperature alpha the
    optimal advantage is A*(s, a) = alpha log pi*(a|s), so that preferences by regret are a logistic model of these
    sums; no reward and no value function is fitted.

    Symbols:
    alpha   temperature, > 0.
    bias    lambda of the paper, in (0, 1]; below 1 a pair is satisfied the sooner the likelier both segments are, which
            keeps the policy near the data; 1 is plain CPL.
    bc      weight of behaviour cloning of both responses, a mean over their |y| steps, >= 0 (CPL-BC: bias 1, bc 1).

    Properties: A soft label p weighs both orders by p and 1 - p, each with its own bias. bias = 1 and bc = 0 is
    reference-free DPO with beta = alpha; adding a constant to every log pi then changes nothing. Behaviour
    cloning raises both responses: with bc > alpha |y| the first step raises the rejected one too.
    Raises: ValueError for parameters out of range, or where bc needs lengths and the batch carries none.

    Source: Hejna et al. 2023 (2310.13639); loss, bias and defaults were read in the authors' code, which does not
    discount within a segment.
    """

    alpha: float = 0.1
    bias: float = 0.5
    bc: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        _check(self.alpha, self.bias)
        not_negative(bc=self.bc)

    def __call__(self, scores: Scores) -> Losses:
        found = _loss(self.alpha, self.bias, scores.logp[:, 0], scores.logp[:, 1])
        if not self.bc:
            return found
        cloning = -scores.per_token().logp[:, :2].mean(dim=1)
        return Losses(found.value + self.bc * cloning, **found.metrics)


@dataclass(frozen=True, kw_only=True)
class CplKl:
    """CPL-KL: contrastive preference learning on log-ratios to a reference.

        L = softplus(-alpha [ log-ratio(y0) - bias log-ratio(y1) ]),    log-ratio(y) = log pi(y) - log pi_ref(y)

    Symbols:
    alpha   temperature, > 0.    bias   lambda of the paper, in (0, 1]; 1 is DPO with beta = alpha.

    Properties: log 2 at pi = pi_ref for every bias.
    Raises: ValueError for parameters out of range.

    Source: Hejna et al. 2023 (2310.13639), the authors' code (CPL-KL).
    """

    alpha: float = 0.2
    bias: float = 0.75
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        _check(self.alpha, self.bias)

    def __call__(self, scores: Scores) -> Losses:
        ratio = scores.log_ratio("reference")
        return _loss(self.alpha, self.bias, ratio[:, 0], ratio[:, 1])


@dataclass(frozen=True, kw_only=True)
class CplRanking:
    """CPL on ranked lists: the pair loss of every ordered pair of a list, averaged.

        L = mean over r_i > r_j of softplus(-alpha [ log pi(y_i) - bias log pi(y_j) ]),    0 where all r are equal

    Symbols:
    r       [B, K] rewards, of which the order alone is read; ties are no pair.
    alpha, bias   as in `Cpl`, which this is for lists of two.

    Raises: ValueError for parameters out of range, or lists of one response.

    Source: Hejna et al. 2023 (2310.13639), the authors' code (a batch sorted by score, the loss of all pairs).
    """

    alpha: float = 0.1
    bias: float = 0.5
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(rewards=True, group=True)

    def __post_init__(self) -> None:
        _check(self.alpha, self.bias)

    def __call__(self, scores: Scores) -> Losses:
        reward, logp = scores.rewards(), scores.logp
        if logp.shape[1] < 2:
            raise ValueError(f"a ranked list has at least two responses, got {logp.shape[1]}")
        ahead = (reward[:, :, None] > reward[:, None, :]).to(logp)
        pair = softplus(-self.alpha * (logp[:, :, None] - self.bias * logp[:, None, :]))
        return Losses((ahead * pair).sum(dim=(1, 2)) / ahead.sum(dim=(1, 2)).clamp(min=1.0))
