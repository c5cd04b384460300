"""DPO with a score-function term: HyPO adds an on-policy KL, SAIL the gradient through sampling and labels."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from torch.nn.functional import logsigmoid, softplus

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.groups import leave_one_out
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Hypo:
    """Hybrid preference optimisation: DPO on recorded pairs, reverse KL on fresh samples.

        L = softplus(-beta [lr(y0) - lr(y1)]) + lam mean_i sg[ lr(y_i) - mean_{j != i} lr(y_j) ] log pi(y_i)
        lr(y) = log pi(y) - log pi_ref(y),    i, j over the candidates 2, 3, ...

    Symbols:
    y0, y1     preferred and dispreferred response of the data.
    y2, ...    k >= 1 fresh samples of pi itself; for k = 1 there is no baseline.
    beta       inverse strength of the implicit reward, > 0.
    lam        weight of KL(pi||pi_ref), >= 0.

    Properties: The KL term is a surrogate: its bracket is detached, its expected gradient is lam grad
    KL(pi||pi_ref) = lam E_pi[ (lr - KL) grad log pi ], zero at pi = pi_ref. (The gradient through lr itself has
    expectation zero and would only add noise.) lam = 0 is DPO. It makes the minimiser unique outside the data's
    support.
    Raises: ValueError for parameters out of range and for fewer than three candidates.

    Source: Song et al. 2024 (2406.01462), the objective; the estimator is DERIVED (leave-one-out from the paper's
    table of hyperparameters).
    """

    beta: float = 0.1
    lam: float = 0.01
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 3
    reads: ClassVar[Reads] = Reads(group=True, surrogate=True)

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(lam=self.lam)

    def __call__(self, scores: Scores) -> Losses:
        ratio = scores.log_ratio("reference")
        margin = self.beta * (ratio[:, 0] - ratio[:, 1])
        own = ratio[:, 2:].detach()
        if own.shape[1] == 0:
            raise ValueError("HyPO reads a pair and at least one sample of the policy, got the pair only")
        charge = leave_one_out(own) if own.shape[1] > 1 else own
        pull = (charge * scores.logp[:, 2:]).mean(dim=1)
        return Losses(softplus(-margin) + self.lam * pull, margin=margin, kl=own.mean(dim=1))


@dataclass(frozen=True, kw_only=True)
class Sail:
    """Self-improving alignment: DPO on samples of the policy, with the gradient through their distribution.

        L(z) = -F - generation sg[F + log 2] (log pi(y0) + log pi(y1)) - preference sg[F + log 2] log p(z)
        F = log sigma(u),    u = beta [lr(y0) - lr(y1)],    lr(y) = log pi(y) - log pi_ref(y)

    Symbols:
    y0, y1       two fresh samples of pi (or recorded responses, with generation = 0); z says "y0 beats y1".
    beta         inverse strength of the implicit reward, > 0.
    generation   weight >= 0 of the gradient through the responses; 1 is the exact one.
    preference   weight >= 0 of the gradient through the labels. 0: labels come from data or an oracle, as given.
                 Above 0 the policy is its own judge, z ~ Bernoulli(sigma(u)), p(z) = sigma(u), and the loss is
                 sg[sigma(u)] L(z) + sg[sigma(-u)] L(swapped), the exact expectation: any given label is ignored.

    Properties: Surrogate where a weight is not 0. With both 0 it is (iterative) DPO. With generation = 1 the expected
    gradient is that of E_{y ~ pi}[-F], samples included; for preference = 1 the loss of a pair is the binary entropy of
    sigma(u) with the derivative -u sigma(u) sigma(-u): self-labelling sharpens any margin and is flat at u = 0. The
    baseline -log 2 is F at u = 0, where nothing is known; it leaves the expected gradient as it is. Without it every
    sample is pushed down by its own score-function term, and a policy that is trained on finitely many leaves their
    support. The three designs: data and own labels (0, 1),
    own responses and own labels (1, 1), own responses and an oracle's labels (1, 0).
    Raises: ValueError for parameters out of range.

    Source: Ding et al. 2024 (2406.15567), the bilevel objective; gradient and surrogate DERIVED, designs RECALLED.
    """

    beta: float = 0.1
    generation: float = 1.0
    preference: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(surrogate=True)

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(generation=self.generation, preference=self.preference)

    def __call__(self, scores: Scores) -> Losses:
        margin = self.beta * (scores.gap() - scores.gap("reference"))
        written = self.generation * (scores.logp[:, 0] + scores.logp[:, 1])
        fit, turned = logsigmoid(margin), logsigmoid(-margin)  # F of both orders, and log p of both labels
        value = -fit - _above_chance(margin) * (written + self.preference * fit)
        if self.preference > 0:
            other = -turned - _above_chance(-margin) * (written + self.preference * turned)
            value = fit.exp().detach() * value + turned.exp().detach() * other
        return Losses(value, margin=margin)


def _above_chance(margin: PerComparison) -> PerComparison:
    """log sigma(u) + log 2, without gradient; in float64, because the sum cancels where u is small."""
    return (logsigmoid(margin.detach().double()) + log(2)).to(margin)
