"""SPAC: preference loss plus pessimism against the policy's own responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch.nn.functional import softplus

from equipoise.core.objectives.base import positive
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Spac:
    """Self-play with an adversarial critic, after the change of variables from critic to policy.

        l(y) = log pi(y) - log pi_t(y),     u(d) = b [ l(y2) - l(d) ]  for d in {y0, y1}
        L = w_pref * softplus( -b [l(y0) - l(y1)] )                              preference loss
          + w_pess * mean_d 2 softplus( u(d) )        mode "smooth"              pessimism
          + w_pess * mean_d u(d), |l| clipped at c    mode "linear"

    Symbols:
    y0, y1   preferred and dispreferred response of the data, y2 a response sampled from pi_t.
    pi_t     the policy at the start of the round (anchor "previous"); pi_1 is the SFT policy.
    b        1/eta of the mirror step, > 0: the critic is f = b l + const(x).
    w_pref   weight of the preference loss (theory: of order C sqrt(n)); w_pess of pessimism (theory: 1).
             Only their ratio moves the minimiser; the default is that of 1,600 pairs at C = 1.
    clip     mode "linear" only: |l| <= clip in nats, the box that keeps the critic bounded. Without it the
             linear term has no lower bound: mass may flow to any response outside the data.

    Gradient: through pi only; y2 is a constant.
    Properties: Both data responses form the baseline, so a constant added to l changes nothing (inside the box) and
    swapping the label leaves the pessimism as it is. 2 softplus has slope 1 at 0, so both modes agree to first order at
    pi = pi_t; smooth pessimism is bounded below by 0.
    Raises: ValueError for parameters out of range.

    Source: Ji et al. 2024 (2406.04274). Structure from the abstract and a public summary; the explicit
    objective and the smoothing are DERIVED here along the lines of relative pessimism (Cheng et al. 2022).
    """

    b: float = 1.0
    w_pref: float = 1.0
    w_pess: float = 0.025
    mode: Literal["smooth", "linear"] = "smooth"
    clip: float = 10.0
    anchors: ClassVar[tuple[str, ...]] = ("previous",)
    candidates: ClassVar[int] = 3
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(b=self.b)
        if self.mode not in ("smooth", "linear"):
            raise ValueError(f"mode must be 'smooth' or 'linear', got {self.mode!r}")
        if not (self.w_pref >= 0 and self.w_pess >= 0 and 0 < self.w_pref + self.w_pess < float("inf")):
            raise ValueError(
                f"weights must be finite, >= 0 and not both 0, got {self.w_pref!r}, {self.w_pess!r}"
            )
        if not self.clip > 0:
            raise ValueError(f"clip must be positive (inf for none), got {self.clip!r}")

    def __call__(self, scores: Scores) -> Losses:
        ratio = scores.log_ratio("previous")
        margin = self.b * (ratio[:, 0] - ratio[:, 1])
        if self.mode == "linear":
            ratio = ratio.clamp(-self.clip, self.clip)
        own, data = ratio[:, 2, None], ratio[:, :2]
        u = self.b * (own - data)
        pessimism = (2 * softplus(u) if self.mode == "smooth" else u).mean(dim=1)
        loss = self.w_pref * softplus(-margin) + self.w_pess * pessimism
        return Losses(loss, margin=margin, pessimism=pessimism)
