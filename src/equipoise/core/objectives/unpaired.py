"""Unpaired losses of single responses, each labelled desirable or undesirable, in any proportion.

A label of 1 is desirable, of 0 undesirable; a value between is a soft label, with the mixture of both losses:

    L = label * L_up + (1 - label) * L_down
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import Memory, batch_statistic_of, not_negative, positive
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores

Shift = Literal["running", "pooled", "balanced", "none"]


def weighted_mean(values: PerComparison, weight: PerComparison) -> PerComparison:
    """Weighted mean of detached values [B], repeated for each comparison."""
    return ((weight * values.detach()).sum() / weight.sum()).expand_as(values)


@dataclass(frozen=True, kw_only=True)
class Kto:
    """Kahneman-Tversky optimisation: a saturating value of the log-ratio above a reference point.

        L_up   = desirable   * (1 - sigma(beta (lr(y) - z0)))
        L_down = undesirable * (1 - sigma(beta (z0 - lr(y)))),       lr(y) = log pi(y) - log pi_ref(y)
        z0     = sg[ max(0, mean over the batch of lr(y')) ],  y' a response to an unrelated prompt, after this one

    Symbols:
    y, y'          the labelled response, and an unlabelled second column, read by z0 only.
    beta           > 0.  desirable, undesirable   weights >= 0 of the two classes, for imbalanced labels.
    baseline       "batch": z0 as above; "zero": z0 = 0, and no second column (`ApoZeroUnpaired`).

    Properties: z0, an estimate of KL(pi||pi_ref) clipped at 0 AFTER the mean over the whole batch, carries no
    gradient. A loss lies between 0 and its weight, is half of it at pi_ref, and its gradient vanishes on both tails:
    responses far from the reference point have no gradient.
    Raises: ValueError for parameters out of range and labels outside [0, 1].

    Source: Ethayarajh et al. 2024 (2402.01306), checked against the authors' and TRL's code.
    """

    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0
    baseline: Literal["batch", "zero"] = "batch"
    anchors: ClassVar[tuple[str, ...]] = ("reference",)

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(desirable=self.desirable, undesirable=self.undesirable)
        if self.baseline not in ("batch", "zero"):
            raise ValueError(f"baseline must be 'batch' or 'zero', got {self.baseline!r}")

    @property
    def candidates(self) -> int:
        return 2 if self.baseline == "batch" else 1

    @property
    def reads(self) -> Reads:
        if self.baseline == "zero":
            return Reads(labels=True)
        return Reads(labels=True, batch_statistic=True, statistic_columns=(1,))

    def batch_statistic(self, scores: Scores, weight: PerComparison) -> PerComparison:
        return weighted_mean(scores.log_ratio("reference")[:, 1], weight).clamp(min=0)

    def __call__(self, scores: Scores) -> Losses:
        label, ratio = scores.labels(), scores.log_ratio("reference")[:, 0]
        z0 = batch_statistic_of(self, scores) if self.reads.batch_statistic else torch.zeros_like(ratio)
        above = self.beta * (ratio - z0)
        up, down = self.desirable * torch.sigmoid(-above), self.undesirable * torch.sigmoid(above)
        return Losses(label * up + (1 - label) * down, implicit_reward=self.beta * ratio, baseline=z0)


def ApoZeroUnpaired(*, beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0) -> Kto:
    """Anchored preference optimisation on single responses: KTO with its reference point at 0.

        L_up = desirable * (1 - sigma(beta lr(y))),    L_down = undesirable * sigma(beta lr(y))

    Properties: The case `baseline="zero"` of `Kto`: no mismatched responses are scored. Minimised by raising a
    desirable response's likelihood and lowering an undesirable one's, independently of the batch.

    Source: TRL's `apo_zero_unpaired`, checked against its code; D'Oosterlinck et al. 2024 (2408.06266), RECALLED.
    """
    return Kto(beta=beta, desirable=desirable, undesirable=undesirable, baseline="zero")


@dataclass(frozen=True, kw_only=True)
class Bco:
    """Binary classifier optimisation: logistic regression of desirable against undesirable, with a shifted reward.

        L_up = -log sigma(r - delta),    L_down = -log sigma(-(r - delta)),    r = beta (log pi(y) - log pi_ref(y))

    Symbols:
    beta     > 0.
    shift    delta, without gradient. "running": the mean of all r so far, of both classes and all steps of the fit,
             this one's included (TRL's); where there are no steps, "pooled". "pooled": the mean of all r of the
             batch. "balanced": (E_up[r] + E_down[r])/2 over the batch (RECALLED from the paper); with one class only,
             its mean. "none": 0, which on both responses of a pair is TRL's `bco_pair`.

    Properties: For a pair, L_up + L_down >= the DPO loss for every delta; the slack e^-(r_w - delta) + e^(r_l - delta)
    is minimal at delta = (r_w + r_l)/2 (DERIVED). Adding c to every reward moves every delta but "none" by c and
    changes nothing. Underlying-distribution matching is done by row weights:
    `play.pairings.unpaired.MatchedPrompts`.
    Raises: ValueError for parameters out of range and labels outside [0, 1].

    Source: Jung et al. 2024 (2404.04656); the loss and the running shift checked against TRL's code, which moves the
    shift with every forward pass, here with every optimizer step.
    """

    beta: float = 0.1
    shift: Shift = "running"
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if self.shift not in get_args(Shift):
            raise ValueError(f"shift must be one of {', '.join(get_args(Shift))}, got {self.shift!r}")

    @property
    def reads(self) -> Reads:
        return Reads(labels=True, batch_statistic=self.shift != "none", running=self.shift == "running")

    def batch_statistic(self, scores: Scores, weight: PerComparison) -> PerComparison:
        reward, label = self.beta * scores.log_ratio("reference")[:, 0], scores.labels()
        if self.shift != "balanced":
            return weighted_mean(reward, weight)
        kinds = [share for share in (weight * label, weight * (1 - label)) if bool(share.sum() > 0)]
        return torch.stack([weighted_mean(reward, share) for share in kinds]).mean(dim=0)

    def remember(self, memory: Memory, scores: Scores, weight: PerComparison) -> Memory:
        """(total weight, mean reward) after one more step."""
        before, mean = memory or (0.0, 0.0)
        now, total = float(self.batch_statistic(scores, weight)[0]), float(weight.sum())
        return (before + total, mean + (now - mean) * total / (before + total))

    def recalled(self, memory: Memory, scores: Scores) -> PerComparison:
        return torch.full_like(scores.logp[:, 0], memory[1], requires_grad=False)

    def __call__(self, scores: Scores) -> Losses:
        label, reward = scores.labels(), self.beta * scores.log_ratio("reference")[:, 0]
        delta = batch_statistic_of(self, scores) if self.reads.batch_statistic else torch.zeros_like(reward)
        value = binary_cross_entropy_with_logits(reward - delta, label, reduction="none")
        return Losses(value, implicit_reward=reward, baseline=delta)
