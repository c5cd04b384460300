"""Unlearning losses, and losses of dispreferred responses alone.

Single responses with a label: 0 is to be forgotten, 1 to be retained; a value between mixes both losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import softplus

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


def _fading(ratio: PerComparison, beta: float) -> PerComparison:
    """(2/beta) softplus(beta lr), and lr itself at beta = 0."""
    return 2 / beta * softplus(beta * ratio) if beta else ratio


def _mean_logp(scores: Scores) -> PerComparison:
    """log pi(y)/|y|, the mean over the tokens of each response; without lengths (a finite game) each is one token."""
    return (scores if scores.length is None else scores.per_token()).logp[:, 0]


def _forget_and_retain(scores: Scores, forget: PerComparison, retain: float) -> PerComparison:
    """(1 - label) * forget - label * retain * log pi(y)/|y|. Retained rows have no weight for retain = 0."""
    label = scores.labels()
    return (1 - label) * forget - label * retain * _mean_logp(scores)


@dataclass(frozen=True, kw_only=True)
class Npo:
    """Negative preference optimisation: DPO without a winner, to forget responses.

        L_forget = (2/beta) softplus(beta lr(y)),    lr(y) = log pi(y) - log pi_ref(y)
        L_retain = -retain * log pi(y)/|y|

    Symbols:
    y        a response to forget (label 0), its log-prob a sum over tokens, or to retain (label 1), a mean over tokens.
    beta     >= 0; at 0 its limit without the constant, lr(y): gradient ascent on the NLL (`GradientAscent`).
    retain   c >= 0, the weight of the NLL of the retain set (0: no such set; 1: NPO-RT).

    Properties: The gradient on log pi(y) is 2 sigma(beta lr) = 2 pi^beta/(pi^beta + pi_ref^beta): 1 at pi_ref, fading
    once the response is forgotten, where that of gradient ascent stays 1. L_forget >= 0 for beta > 0, and (2/beta) log
    2 at pi_ref. The mean of the retain term is taken response by response, in the authors' code over all tokens of a
    micro-batch: the two agree for equal lengths. In a batch without lengths, as of a finite game, each response counts
    as one token.
    Raises: ValueError for parameters out of range and labels outside [0, 1].

    Source: Zhang et al. 2024 (2404.05868), both terms checked against the authors' code.
    """

    beta: float = 0.1
    retain: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(labels=True)

    def __post_init__(self) -> None:
        not_negative(beta=self.beta, retain=self.retain)

    def __call__(self, scores: Scores) -> Losses:
        ratio = scores.log_ratio("reference")[:, 0]
        return Losses(_forget_and_retain(scores, _fading(ratio, self.beta), self.retain), log_ratio=ratio)


def NpoRt(*, beta: float = 0.1, retain: float = 1.0) -> Npo:
    """NPO with the NLL of a retain set: `Npo` with `retain` = 1 ("grad diff" in the authors' code).

        L_forget = (2/beta) softplus(beta lr(y)),    L_retain = -retain * log pi(y)/|y|

    Source: Zhang et al. 2024 (2404.05868), with their coefficient 1.
    """
    return Npo(beta=beta, retain=retain)


@dataclass(frozen=True, kw_only=True)
class NpoKl:
    """NPO with a KL penalty that keeps next-token distributions near the reference's on a retain set.

        L_forget = (2/beta) softplus(beta lr(y)),    lr(y) = log pi(y) - log pi_ref(y)
        L_retain = retain (1/|y|) sum_k KL( pi_ref(.|y_<k) || pi(.|y_<k) ),   over the whole vocabulary

    Symbols:
    y        a response to forget (label 0) or to retain (label 1).
    beta     >= 0, as in `Npo`.
    retain   c >= 0, the weight of the divergence.

    Properties: At pi_ref L_retain is 0 with no gradient, its minimum: it keeps the policy in place, while
    `NpoRt` continues to raise the retained responses. Only next-token distributions count, not the tokens themselves.
    The mean is over the response's tokens; the authors' code divides the same sum by all positions of a padded batch
    and adds the divergences at prompt and padding tokens, where nothing is to be retained: with those the weight of the
    term would depend on the longest row of the batch. The reference must be in memory during training.
    Raises: ValueError for parameters out of range and labels outside [0, 1].

    Source: Zhang et al. 2024 (2404.05868), checked against the authors' code on a batch of response tokens alone.
    """

    beta: float = 0.1
    retain: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(labels=True, tokens=True, divergences=("reference",))

    def __post_init__(self) -> None:
        not_negative(beta=self.beta, retain=self.retain)

    def __call__(self, scores: Scores) -> Losses:
        tokens, label, ratio = scores.by_token(), scores.labels(), scores.log_ratio("reference")[:, 0]
        drift = (tokens.divergence("reference").sum(dim=2) / tokens.mask.sum(dim=2))[:, 0]
        value = (1 - label) * _fading(ratio, self.beta) + label * self.retain * drift
        return Losses(value, log_ratio=ratio, drift=drift)


def GradientAscent(*, retain: float = 0.0) -> Npo:
    """Gradient ascent on the negative log-likelihood of the forget set; it has no minimum.

        L_forget = log pi(y) - log pi_ref(y),    L_retain = -retain * log pi(y)/|y|

    Properties: The limit of `Npo` for beta -> 0, up to the constant (2/beta) log 2: its gradient never fades.

    Source: the baseline of Zhang et al. 2024 (2404.05868), there by the limit; DERIVED and checked at beta = 1e-4.
    """
    return Npo(beta=0.0, retain=retain)


@dataclass(frozen=True, kw_only=True)
class SimNpo:
    """NPO without a reference, on the mean token log-prob.

        L_forget = -(2/beta) log sigma( -beta lp(y) - gamma ),    L_retain = -retain * lp(y),    lp(y) = log pi(y)/|y|

    Symbols:
    y        a response to forget (label 0) or to retain (label 1).
    beta     > 0.
    gamma    >= 0, margin: the response counts as forgotten if lp(y) is far below -gamma/beta.
    retain   as in `Npo`.

    Properties: The gradient on each of the response's tokens is 2 sigma(beta lp + gamma)/|y|: long responses are not
    forgotten first, and pi_ref is no stopping point.
    Raises: ValueError for parameters out of range and labels outside [0, 1].

    Source: Fan et al. 2024 (2410.07163); formula and defaults are RECALLED.
    """

    beta: float = 2.5
    gamma: float = 0.0
    retain: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(labels=True)

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(gamma=self.gamma, retain=self.retain)

    def __call__(self, scores: Scores) -> Losses:
        mean = scores.per_token().logp[:, 0]
        forget = 2 / self.beta * softplus(self.beta * mean + self.gamma)
        return Losses(_forget_and_retain(scores, forget, self.retain), mean_token_logp=mean)


@dataclass(frozen=True, kw_only=True)
class D2o:
    """Distributional dispreference optimisation: a dispreferred response against own samples jointly.

        L = softplus(-z),    z = (beta/K) sum_i log pi(y_i)/pi_harmful(y_i) - alpha log pi(y_l)/pi_helpful(y_l)

    Symbols:
    y_l          the dispreferred response, column 1; no preferred one is needed.
    y_i          K >= 1 samples of the reference, columns 0, 2, 3, ...; old or fresh.
    alpha, beta  weights of the bad response and of the samples, > 0.
    harmful, helpful    anchors; the paper's experiments take the original model for both.

    Properties: For K = 1, alpha = beta and one reference it is DPO with an own sample as the winner. The loss is log 2
    where the policy is both references, and the same in any order of the samples. There the mean of the sample term's
    gradient is 0 under pi_ref (a score function): early learning only pushes y_l down.
    Raises: ValueError unless both are positive.

    Source: Duan et al. 2024 (2403.03419), from a transcription of the paper.
    """

    beta: float = 0.1
    alpha: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("harmful", "helpful")
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(group=True)

    def __post_init__(self) -> None:
        positive(beta=self.beta, alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        own, bad = scores.log_ratio("harmful"), scores.log_ratio("helpful")[:, 1]
        mean = torch.cat([own[:, :1], own[:, 2:]], dim=1).mean(dim=1)
        z = self.beta * mean - self.alpha * bad
        return Losses(softplus(-z), margin=z)
