"""Online fast-slow DPO: two policies trained on the same preferences at different learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import softplus

from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores

LARGEST_LOGIT = 10.0


@dataclass(frozen=True, kw_only=True)
class FastSlowDpo:
    """Online fast-slow DPO (OFS-DPO): DPO of one of two modules, plus a contrastive term between their margins.

        L = softplus(-beta h) + chase L_FS    for the fast module (the rival is slow)
        L = softplus(-beta h) - chase L_FS    for the slow module (the rival is fast)
        L_FS = softplus(-beta (h_fast - h_slow)),    h = [log pi(y0) - log pi_ref(y0)] - [log pi(y1) - log pi_ref(y1)]

    Symbols:
    y0, y1   preferred and dispreferred response; log-probs are sums over response tokens.
    rival    the other module, frozen (anchor "rival"); pi_ref (anchor "reference") cancels in L_FS.
    beta     inverse strength of the implicit reward, > 0.
    chase    weight of the contrastive term, >= 0.
    slow     which of the two the trained policy is.

    Gradient: through the trained module only. chase = 0 is DPO.
    Properties: If both agree L_FS = log 2 and either term pulls its own h upwards, with gradient -chase beta/2: the
    two differ by their learning rates only. -L_FS has no lower bound in h_slow, so the logit beta (h_fast - h_slow) is
    clamped to +-10, beyond which the term has no gradient.
    Raises: ValueError for parameters out of range.

    Source: Qi et al. 2024 (2406.05534), equations 3-6 as read in a third party's code, whose clamp this is.
    """

    beta: float = 0.1
    chase: float = 0.1
    slow: bool = False
    anchors: ClassVar[tuple[str, ...]] = ("reference", "rival")
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR
    parameters: ClassVar[tuple[str, ...]] = ("beta", "chase")

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(chase=self.chase)

    def __call__(self, scores: Scores) -> Losses:
        margin = self.beta * (scores.gap() - scores.gap("reference"))
        sign = -1.0 if self.slow else 1.0
        lead = sign * self.beta * (scores.gap() - scores.gap("rival"))  # beta (h_fast - h_slow)
        contest = softplus(-lead.clamp(-LARGEST_LOGIT, LARGEST_LOGIT))
        return Losses(softplus(-margin) + sign * self.chase * contest, margin=margin, contest=contest)
