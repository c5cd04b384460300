"""The clipped value loss of a critic (PPO), on values of prefixes instead of log-probs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class ClippedValue:
    """Clipped value loss: a value network may move at most `clip` from its own earlier values.

        L = 1/2 mean_i mean_k max( (V_ik - G_ik)^2, (V'_ik - G_ik)^2 ),    V' = W + clamp(V - W, -clip, clip)

    Symbols:
    V_ik   the network's value of response i's prefix before token k; these are the scores that the loss reads.
    W_ik   its value when the responses were written (anchor "previous").
    G_ik   the target, the reward of the token: A_ik + W_ik, the advantage of `core.advantages.gae` plus the value.
    clip   > 0; infinity for the plain squared loss.

    Gradient: through V; where the clipped error is the larger one, none.
    Properties: Within the clip it is half the mean squared error. Tokens are averaged over each response.
    Raises: ValueError unless clip > 0.

    Source: RTO's authors' code (2404.18922), which is OpenRLHF's; Schulman et al. 2017 do not clip.
    """

    clip: float = 0.2
    anchors: ClassVar[tuple[str, ...]] = ("previous",)
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(rewards=True, group=True, tokens=True)

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip!r}")

    def __call__(self, scores: Scores) -> Losses:
        tokens = scores.by_token()
        target, before = tokens.rewards(), tokens.of("previous")
        near = before + (tokens.logp - before).clamp(-self.clip, self.clip)
        error = torch.maximum((tokens.logp - target).square(), (near - target).square())
        length = tokens.mask.sum(dim=2)
        value = 0.5 * ((error * tokens.mask).sum(dim=2) / length).mean(dim=1)
        return Losses(value, mean_value=(tokens.logp * tokens.mask).sum(dim=(1, 2)) / length.sum(dim=1))
