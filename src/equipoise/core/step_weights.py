"""Adaptive step weights (TPO), by the dissimilarity of steps between answers to one prompt."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

StepForm = Literal["difference", "release"]


def weights_of(means: Float[Tensor, "B K S D"], there: Tensor, form: StepForm) -> Float[Tensor, "B K S"]:
    """The formula of `policy.scoring.step_weights` for at most S steps; `there`: mask of steps that exist."""
    present = there[..., None].to(means)
    if form == "release":
        raw = 1 + cosine_similarity(means, means[:, :1], dim=3) * there[:, :1]
    else:
        others = (means * present).sum(dim=1, keepdim=True) - means * present
        count = present.sum(dim=1, keepdim=True) - present
        sibling = others / count.clamp(min=1)
        raw = 1 - cosine_similarity(means, sibling, dim=3) * (count[..., 0] > 0)
    raw = raw.clamp(min=0).where(there, 0)
    raw = raw.where(raw > 1e-6, 0)  # rounding error of a cosine of 1
    total, steps = raw.sum(dim=2, keepdim=True), there.sum(dim=2, keepdim=True)
    return (raw * steps / total.where(total > 0, 1)).where(total > 0, 1.0).where(there, 0)
