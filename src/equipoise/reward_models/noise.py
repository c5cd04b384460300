"""Noisy preference labels: strength by an ensemble of reward models, and what the Bradley-Terry loss makes of it.

strength = preference_strength(logits)                     logits [M, N] of M models on N labelled pairs
treated = Recipe(flip=0.2, margin=True).treat(prob, strength)
loss = preference_loss(logit, treated.prob, margin=treated.margin, smoothing=treated.smoothing)

Everything here is arithmetic on logits: it does not know which model gave them.
Source: Secrets of RLHF in Large Language Models, part II (2401.06080), from its text; no code of the remedies is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PerPair: TypeAlias = Float[Tensor, "N"]
Chosen: TypeAlias = Bool[Tensor, "N"]
Where: TypeAlias = Literal["all", "negative"]


@dataclass(frozen=True, eq=False)
class Strength:
    """Preference strength of N pairs: mean and population standard deviation of an ensemble's logits.

    mean    [N] u = mean_k d_k in nats, d_k = r_k(first) - r_k(second): whichever response the label prefers. Where
            that is the first one, u < 0 denies the label.
    std     [N] v = sqrt( sum_k (d_k - u)^2 / M ), in nats; 0 where all models agree.
    models  M.

    Turning the pair round negates the mean and keeps the standard deviation. Raises ValueError for other shapes, values
    that are not finite or a negative std.
    """

    mean: PerPair
    std: PerPair
    models: int

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ValueError(
                f"mean and std must be [pairs]: {tuple(self.mean.shape)}, {tuple(self.std.shape)}"
            )
        if not bool((self.mean.isfinite() & self.std.isfinite() & (self.std >= 0)).all()):
            raise ValueError("a preference strength is not finite, or its standard deviation negative")
        if self.models < 1:
            raise ValueError(f"an ensemble has at least one model, got {self.models}")

    def __len__(self) -> int:
        return len(self.mean)


def preference_strength(logits: Float[Tensor, "M N"]) -> Strength:
    """Ensemble preference strength of pairs: mean and population std over models of r(first) - r(second).

    logits    [M, N] in nats, a row for each model; in the paper M = 10, trained on the same pairs in other orders.

    Models that agree give std 0 exactly. Raises ValueError for another shape or a logit that is not finite.
    """
    if logits.ndim != 2 or len(logits) < 1:
        raise ValueError(f"logits must be [models, pairs] with a model at least, got {tuple(logits.shape)}")
    if not bool(logits.isfinite().all()):
        model, pair = (~logits.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"model {model}'s logit on pair {pair} is {float(logits[model, pair])}")
    logits = logits.double()
    if bool((logits == logits[0]).all()):  # a mean of equal numbers may differ from them in its last bit
        return Strength(logits[0].clone(), torch.zeros_like(logits[0]), len(logits))
    return Strength(logits.mean(dim=0), logits.std(dim=0, correction=0), len(logits))


def lowest(values: PerPair, share: float) -> Chosen:
    """The pairs of lowest strength to flip: True for the floor(share N) smallest values, equal ones in order.

    Raises ValueError unless share is in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of labels to flip must lie in [0, 1], got {share!r}")
    count = int(share * len(values) + 1e-9)  # 0.29 * 100 is 28.999...
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[values.argsort(stable=True)[:count]] = True
    return chosen


@dataclass(frozen=True, eq=False)
class Treated:
    """Labels of N pairs as the loss reads them (`losses.preference_loss`).

    flipped    [N] which labels were turned round.
    prob       [N] P(first beats second), turned where flipped.
    margin     [N] target margin r(first) - r(second), in nats: whichever response the label prefers.
    smoothing  [N] probability e that the label, as it now is, is wrong.
    """

    flipped: Chosen
    prob: PerPair
    margin: PerPair
    smoothing: PerPair


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done about noisy labels: flips, smoothing and margins, each off by default.

    flip        share of all labels, those of lowest strength, that are turned round; 0.2 in the paper.
    smooth      e of label smoothing; a label is then wrong with probability e.
    smooth_on   "all" pairs, or "negative": those whose label, after flipping, the ensemble denies (the paper's
                soft labels).
    margin      every pair must win by the ensemble's mean margin, which may be negative.

    The paper's recipes: Flip, Margin, Flip + Margin, and Soft label + Margin (smooth on "negative").
    Raises ValueError unless flip is in [0, 1] and smooth in [0, 1/2]: beyond 1/2 the loss learns the opposite.
    """

    flip: float = 0.0
    smooth: float = 0.0
    smooth_on: Where = "all"
    margin: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"the share of labels to flip must lie in [0, 1], got {self.flip!r}")
        if not 0 <= self.smooth <= 0.5:
            raise ValueError(f"label smoothing must lie in [0, 0.5], got {self.smooth!r}")
        if self.smooth_on not in ("all", "negative"):
            raise ValueError(f"smoothing is on 'all' or 'negative' pairs, got {self.smooth_on!r}")

    @property
    def reads_strength(self) -> bool:
        """Whether the labels depend on an ensemble's strengths."""
        return bool(self.flip or self.margin or (self.smooth and self.smooth_on == "negative"))

    def treat(self, prob: PerPair, strength: Strength | None) -> Treated:
        """Labels P(first beats second) [N], treated. A tie, p = 1/2, has no label to flip and none to deny.

        Raises ValueError where a strength is needed and missing, or is of another number of pairs.
        """
        prob = prob.double()
        zeros = torch.zeros_like(prob)
        if strength is None:
            if self.reads_strength:
                raise ValueError(
                    "flips, margins and smoothing of negative pairs need an ensemble's strength of each pair"
                )
            return Treated(zeros.bool(), prob, zeros, zeros + self.smooth)
        if len(prob) != len(strength):
            raise ValueError(f"{len(strength)} strengths for {len(prob)} pairs")
        side = (prob - 0.5).sign()
        of_label = side * strength.mean.double()
        flipped = lowest(of_label.masked_fill(side == 0, torch.inf), self.flip) & (side != 0)
        denied = torch.where(flipped, -of_label, of_label) < 0
        softened = denied | (self.smooth_on == "all")
        return Treated(
            flipped,
            torch.where(flipped, 1 - prob, prob),
            strength.mean.double() * float(self.margin),
            self.smooth * softened.double(),
        )
