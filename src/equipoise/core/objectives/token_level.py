"""Objectives that read a response token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from equipoise.core.objectives.policy_gradient import check_clip, clipped, ratio
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Ppo:
    """Proximal policy optimisation: one clipped ratio for each token, weighted by that token's advantage.

        L = -mean_i sum_k min( A_ik rho_ik, A_ik clip(rho_ik) ),    rho_ik = pi(y_ik|y_i<k)/pi_t(y_ik|y_i<k)

    Symbols:
    y_1..y_K   one or more samples of pi_t (anchor "previous"), token by token.
    A_ik       the reward of token k of response i: its advantage, constant; see `core.advantages`.
    clip       epsilon of clip(u) = clamp(u, 1 - epsilon, 1 + epsilon), in (0, 1).

    Gradient: through pi in the ratios.
    Properties: A log-ratio above 20 nats counts as 20. Tokens are summed, not averaged: at pi = pi_t the gradient is
    then minus sum_k A_k grad log pi(y_k|y_<k), the policy gradient itself, whatever the lengths; dividing by them would
    weigh the tokens of short responses more. Where responses count as one token (a finite game) there is one ratio per
    response. Metric `clipped`: the share of tokens beyond the clip range that have no gradient.
    Raises: ValueError for a clip out of range and for a batch without rewards.

    Source: Schulman et al. 2017 (1707.06347), the clipped surrogate; for language models token by token as in
    Ivison et al. 2024 (2406.09279).
    """

    clip: float = 0.2
    anchors: ClassVar[tuple[str, ...]] = ("previous",)
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(rewards=True, group=True, tokens=True)

    def __post_init__(self) -> None:
        check_clip(self.clip)

    def __call__(self, scores: Scores) -> Losses:
        tokens = scores.by_token()
        advantage, moved = tokens.rewards(), ratio(tokens.log_ratio("previous"))
        gained = clipped(moved, advantage, self.clip)
        still = (gained < advantage * moved).sum(dim=(1, 2)) / tokens.mask.sum(dim=(1, 2))
        return Losses(-gained.sum(dim=2).mean(dim=1), clipped=still)
