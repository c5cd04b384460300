"""SRPO: one model in two roles, a generator of answers and an improver of given answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from equipoise.core.objectives.base import positive
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Srpo:
    """Self-improving robust preference optimisation: the min-max over generator and improver as squared residuals.

        L     = (1 - alpha) l_rob + alpha l_imp
        l_rob = ( beta [A(w|l) - A(l|w) + B(w) - B(l)] - 1 )^2
        l_imp = ( beta [A(w|l) - A(l|l)] - 1/2 )^2  +  ( beta [A(w|w) - A(l|w)] - 1/2 )^2
        B(y)  = log pi(y|x) - log pi_ref(y|x),   A(y|z) = log pid(y|z, x) - log pi_ref(y|z, x)

    Symbols:
    w, l     preferred and dispreferred response; log-probs are sums over response tokens.
    pi, pid  generator and improver: one policy, with the prompt x alone or also an answer z in its context.
    beta     KL weight of both players, > 0.
    alpha    weight of the improver's own residuals, in [0, 1]. Every alpha strictly inside has the same population
             minimiser; alpha = 0 alone does not determine the improver, alpha = 1 leaves the generator untrained.

    Columns: 0 w, 1 l (generator); 2 w given l, 3 l given w, 4 w given w, 5 l given l (improver), where "y given z"
    is the response y with the answer z in its context. `reads.swapped` exchanges w and l in all of them.

    Gradient: through the policy in both roles; the anchor "reference" is scored in the same six contexts.
    Properties: The minimiser for any pairs with labels P and full support is pid ~ pi_ref(.|z) exp(P(. > z)/beta) with
    normaliser Z(z) and pi ~ pi_ref/Z: it does not depend on the sampler of the pairs. If the two roles coincide (A = B)
    the loss is (4 - 2 alpha) beta^2 times that of `Ipo(tau=beta)`. Metrics: margin = beta [A(w|l) - A(l|w) + B(w) -
    B(l)], an estimate of 2P - 1; improvement = mean of the two improver terms, an estimate of P - 1/2.
    Raises: ValueError for parameters out of range.

    Source: Choi et al. 2024 (2406.01660) for the min-max; the residuals are DERIVED from its optimum (`games.srpo`).
    Checked against a third party's trainer (frasermince/trl, srpo_trainer_2.py), which has the same two parts at the
    same scale, beta 0.1 and alpha 0.8.
    """

    beta: float = 0.1
    alpha: float = 0.8
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 6
    reads: ClassVar[Reads] = Reads(swapped=(1, 0, 3, 2, 5, 4))

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha!r}")

    def __call__(self, scores: Scores) -> Losses:
        ratio = self.beta * scores.log_ratio("reference")[:, : self.candidates]
        won, lost, w_given_l, l_given_w, w_given_w, l_given_l = ratio.unbind(1)
        margin = (w_given_l - l_given_w) + (won - lost)
        over_l, over_w = w_given_l - l_given_l, w_given_w - l_given_w
        robust = (margin - 1).square()
        improver = (over_l - 0.5).square() + (over_w - 0.5).square()
        return Losses(
            (1 - self.alpha) * robust + self.alpha * improver,
            margin=margin,
            improvement=(over_l + over_w) / 2,
        )
