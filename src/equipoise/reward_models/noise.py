"""Noisy preference labels: strength by an ensemble of reward models, and what the Bradley-Terry loss makes of it.

strength = preference_strength(margins)        margins [M, N] of M reward models on N labelled pairs
labels = Remedies(flip=0.2, margin=True).labels(strength)
loss = noisy_pair_loss(chosen - rejected, labels)

Everything here is arithmetic on scores: it does not know which model gave them.
Source: Secrets of RLHF in Large Language Models, part II (2401.06080), from its text; no code of the remedies is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

PerPair: TypeAlias = Float[Tensor, "N"]
Chosen: TypeAlias = Bool[Tensor, "N"]
Where: TypeAlias = Literal["all", "negative"]


@dataclass(frozen=True, eq=False)
class Strength:
    """Preference strength of N labelled pairs: mean and population standard deviation of an ensemble's margins.

    mean    [N] u = mean_k d_k in logits, d_k = r_k(chosen) - r_k(rejected); below 0 the ensemble denies the label.
    std     [N] v = sqrt( sum_k (d_k - u)^2 / M ), in logits; 0 where all models agree.
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


def preference_strength(margins: Float[Tensor, "M N"]) -> Strength:
    """Ensemble preference strength of pairs: mean and population std over models of r(chosen) - r(rejected).

    margins    [M, N] in logits, one row for each reward model; in the paper M = 10, trained on the same pairs in
               different orders.

    Models that agree give std 0 exactly. Raises ValueError for another shape or a margin that is not finite.
    """
    if margins.ndim != 2 or len(margins) < 1:
        raise ValueError(f"margins must be [models, pairs] with a model at least, got {tuple(margins.shape)}")
    if not bool(margins.isfinite().all()):
        model, pair = (~margins.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"model {model}'s margin on pair {pair} is {float(margins[model, pair])}")
    margins = margins.double()
    if bool((margins == margins[0]).all()):  # a mean of equal numbers may differ from them in its last bit
        return Strength(margins[0].clone(), torch.zeros_like(margins[0]), len(margins))
    return Strength(margins.mean(dim=0), margins.std(dim=0, correction=0), len(margins))


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
class Labels:
    """Labels of N pairs as the Bradley-Terry loss reads them: their side, a target margin and a smoothing each.

    side       [N] 1: the label as recorded, -1: turned round.
    margin     [N] of the pair AS RECORDED, r(chosen) - r(rejected), in logits; its sign turns with the label's side.
    smoothing  [N] probability e in [0, 1] that the label, after turning, is wrong.
    """

    side: PerPair
    margin: PerPair
    smoothing: PerPair

    def __len__(self) -> int:
        return len(self.side)

    def __getitem__(self, rows: Tensor) -> Labels:
        """The labels of these rows."""
        return Labels(self.side[rows], self.margin[rows], self.smoothing[rows])

    def flipped(self) -> Labels:
        """Every label turned round; twice is the identity."""
        return Labels(-self.side, self.margin, self.smoothing)

    @classmethod
    def plain(cls, count: int) -> Labels:
        """Labels as recorded, without margin or smoothing: ordinary Bradley-Terry."""
        zeros = torch.zeros(count, dtype=torch.float64)
        return cls(zeros + 1, zeros, zeros)


def noisy_pair_loss(difference: PerPair, labels: Labels) -> PerPair:
    """Bradley-Terry loss under label noise, per pair: flipped labels, adaptive margins and label smoothing.

        z = s (d - mu)          -(1 - e) log sigma(z) - e log sigma(-z)

    difference    [N] d = r(chosen) - r(rejected) of the pairs as recorded, in logits.
    s, mu, e      `labels.side`, `labels.margin`, `labels.smoothing`.

    Its minimum is at z = logit(1 - e). With mu = 0 and e = 0 it is Bradley-Terry's; at d = mu it is log 2 whatever
    s and e are. A label that is flipped has the margin -mu for the side that now wins: z is as if the pair had been
    recorded the other way round with strength -mu.
    """
    side, margin, smoothing = (x.to(difference) for x in (labels.side, labels.margin, labels.smoothing))
    z = side * (difference - margin)
    return -(1 - smoothing) * logsigmoid(z) - smoothing * logsigmoid(-z)


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """What is done about noisy labels: flips, smoothing and margins, each off by default.

    flip        share of all labels, those of lowest strength, that are turned round; 0.2 in the paper.
    smooth      e of label smoothing; a label is then wrong with probability e.
    smooth_on   "all" pairs, or those of "negative" strength alone (after flipping): the paper's soft labels.
    margin      subtract the ensemble's mean margin from every pair's; it may be negative.

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

    def labels(self, strength: Strength | None, count: int | None = None) -> Labels:
        """The labels of all pairs; `count` says how many there are where no strength is needed.

        Raises ValueError where a strength is needed and missing, or is of another number of pairs.
        """
        if strength is None:
            if self.reads_strength:
                raise ValueError(
                    "flips, margins and smoothing of negative pairs need an ensemble's strength of each pair"
                )
            if count is None:
                raise ValueError("the number of pairs is needed where no strength is given")
            plain = Labels.plain(count)
            return Labels(plain.side, plain.margin, plain.smoothing + self.smooth)
        if count is not None and count != len(strength):
            raise ValueError(f"{len(strength)} strengths for {count} pairs")
        mean = strength.mean.double()
        side = 1 - 2 * lowest(mean, self.flip).double()
        softened = torch.ones_like(mean) if self.smooth_on == "all" else (side * mean < 0).double()
        return Labels(side, mean * float(self.margin), self.smooth * softened)
