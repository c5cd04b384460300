"""Self-supervised degradation: a pair loss plus a classifier of how much content a response lacks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from equipoise.core.objectives.base import Objective, not_negative, require_pair_loss
from equipoise.core.objectives.logistic import Dpo
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class WithDegrees:
    """Self-supervised preference optimisation: any pair loss, and a classification of degraded responses.

        L = L_base(y0, y1) - gamma_d mean_i log q(d_i|y_i)

    Symbols:
    y0, y1   preferred and dispreferred response: columns 0 and 1, whole (degree 0).
    y_i      all `degrees` versions of both: y0 and y1 themselves, then those of y0 and then those of y1 that lack more
             and more of their key phrases (degrees 1, 2, ..).
    q        a linear classifier on the policy's mean last hidden state over the text, one for each side; `degree` of
             the auxiliary head is log q(d_i|y_i). Its gradient enters the policy's trunk.
    gamma_d  weight of the classification, the paper's gamma, >= 0; 0 is the base loss.

    Properties: The base reads the two whole responses only. Metric `degree_nll`: the mean cross-entropy, log(degrees)
    at chance.
    Raises: ValueError for a base that is not a pair loss and for parameters out of range.

    Source: Li et al. 2024 (2409.17791): the sum of the two losses, and that degrees are made by removing key content,
    from the paper's text; number of degrees, pooling, heads and gamma_d are DERIVED, a choice of this library.
    """

    base: Objective = field(default_factory=Dpo)
    gamma_d: float = 0.1
    degrees: int = 4
    parameters: ClassVar[tuple[str, ...]] = ("gamma_d", "degrees")

    def __post_init__(self) -> None:
        require_pair_loss(type(self).__name__, self.base)
        not_negative(gamma_d=self.gamma_d)
        if self.degrees < 2:
            raise ValueError(f"degrees must be at least 2, got {self.degrees!r}")

    @property
    def anchors(self) -> tuple[str, ...]:
        return self.base.anchors

    @property
    def candidates(self) -> int:
        return 2 * self.degrees

    @property
    def reads(self) -> Reads:
        first = tuple(range(2, self.degrees + 1))
        second = tuple(range(self.degrees + 1, 2 * self.degrees))
        return replace(self.base.reads, auxiliary=("degree",), swapped=(1, 0, *second, *first))

    def __call__(self, scores: Scores) -> Losses:
        base, said = self.base(scores), scores.auxiliary_output("degree")[:, : self.candidates]
        if said.shape[1] < self.candidates:
            raise ValueError(
                f"{self.degrees} degrees of a pair are {self.candidates} texts, got {said.shape[1]}"
            )
        nll = -said.mean(dim=1)
        return Losses(base.value + self.gamma_d * nll, **base.metrics, degree_nll=nll)


def DegreeDpo(*, beta: float = 0.1, gamma_d: float = 0.1, degrees: int = 4) -> WithDegrees:
    """SPO, self-supervised preference optimisation: `WithDegrees` on `Dpo`.

    Properties: Not self-play preference optimisation, which has the same name.

    Source: Li et al. 2024 (2409.17791).
    """
    return WithDegrees(base=Dpo(beta=beta), gamma_d=gamma_d, degrees=degrees)
