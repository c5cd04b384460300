"""Losses of labels for a classifier as data: comp-sum (cross-entropy among them), LDR, ALDR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from torch import Tensor

from equipoise.core.margins.example_state import ExampleState
from equipoise.core.margins.robust import Aldr, ldr_loss, normalised
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.label_margins import MarginLoss, PhiLink, label_margins

Started: TypeAlias = Callable[
    [Tensor, Tensor, Tensor], Tensor
]  # scores [B, K], labels [B], indices [B] -> [B]


class LabelLoss(Protocol):
    """A loss of scores and labels, begun anew for each fit: it may keep numbers for each example."""

    def begun(self, examples: int) -> Started: ...


@dataclass(frozen=True, kw_only=True)
class CompSum:
    """Comp-sum loss Phi_tau( sum_{k != y} exp(h_k - h_y) ); tau = 1 is cross-entropy, 2 mean absolute error.

    Source: Mao et al. 2023 (2304.07288).
    """

    tau: float = 1.0

    def begun(self, examples: int) -> Started:
        loss = MarginLoss(link=PhiLink(tau=self.tau))
        return lambda scores, label, index: loss.of_margins(label_margins(scores, label)).value


@dataclass(frozen=True, kw_only=True)
class Ldr:
    """LDR loss with one temperature, on scores that are normalised for each example.

    Source: Zhu et al. 2023 (2112.14869); the normalisation is that of the authors' code.
    """

    temperature: float = 10.0
    margin: float = 0.1

    def __post_init__(self) -> None:
        positive(temperature=self.temperature)
        not_negative(margin=self.margin)

    def begun(self, examples: int) -> Started:
        return lambda scores, label, index: ldr_loss(normalised(scores), label, self.temperature, self.margin)


@dataclass(frozen=True, kw_only=True)
class OwnLdr:
    """ALDR loss: a temperature of its own for each example, updated in closed form when the example is visited.

    Source: Zhu et al. 2023 (2112.14869); the normalisation is that of the authors' code.
    """

    rule: Aldr = field(default_factory=Aldr)

    def begun(self, examples: int) -> Started:
        state = ExampleState(examples, temperature=self.rule.centre)

        def loss(scores: Tensor, label: Tensor, index: Tensor) -> Tensor:
            even = normalised(scores)
            now = self.rule.updated(even, label, state.read(index)["temperature"])
            state.write(index, temperature=now)
            return self.rule.loss(even, label, now)

        return loss
