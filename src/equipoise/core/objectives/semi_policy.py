"""Semi-policy preference optimisation (SePPO): an own sample is a loser only where its writer is the worse policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch.nn.functional import softplus

from equipoise.core.objectives.base import positive
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores

Criterion = Literal["flip", "ignore", "none"]


@dataclass(frozen=True, kw_only=True)
class Seppo:
    """SePPO: DPO of a recorded winner against a sample of the reference, whose sign an anchor criterion decides.

        L = softplus(-beta [ lr(y0) - s lr(y1) ]),    lr(y) = log pi(y) - log pi_ref(y)
        s = sign lr(y0)          "flip": a reference that is better on the winner wrote another winner
        s = 1[ lr(y0) > 0 ]      "ignore": then its sample is left out
        s = 1                    "none": DPO

    Symbols:
    y0, y1      a recorded winner, and a sample of pi_ref, a past iterate drawn from a pool.
    beta        inverse strength of the implicit reward, > 0.
    criterion   how s is decided.

    Gradient: through pi only; s is a constant.
    Properties: At pi = pi_ref the sample counts nothing unless the criterion is "none". For a denoiser lr(y) is half of
    what its error falls below the reference's, so that beta is Diffusion-DPO's.
    Raises: ValueError for parameters out of range.

    Source: Zhang et al. 2024 (2410.05255): loss and values of s as public reviews quote them; the orientation of s is
    DERIVED from the paper's description.
    """

    beta: float = 0.1
    criterion: Criterion = "flip"
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if self.criterion not in get_args(Criterion):
            raise ValueError(
                f"criterion must be one of {', '.join(get_args(Criterion))}, got {self.criterion!r}"
            )

    def __call__(self, scores: Scores) -> Losses:
        ratio = scores.log_ratio("reference")
        won = ratio[:, 0].detach()
        signs = {"flip": won.sign(), "ignore": (won > 0).to(won), "none": torch.ones_like(won)}
        sign = signs[self.criterion]
        margin = self.beta * (ratio[:, 0] - sign * ratio[:, 1])
        return Losses(softplus(-margin), margin=margin, flipped=(sign < 0).to(won))
