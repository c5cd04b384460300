"""Tabular policies over a finite set of responses: one row of logits per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from equipoise.core.dims import PerPrompt, Strategy

PromptIndex: TypeAlias = Int[Tensor, "B"]
ResponseIndex: TypeAlias = Int[Tensor, "B K"]


@dataclass(frozen=True, eq=False)
class TabularPolicy:
    """Tabular policy pi(y|x) = softmax(logits[x])[y], in float64; the "model" of the exact world.

    logits    [X, A]; minus infinity means probability 0. They may carry a gradient.

    Immutable: every update returns a new policy. Raises ValueError for a wrong shape, a NaN, or a prompt
    without any finite logit.
    """

    logits: Strategy

    def __post_init__(self) -> None:
        if self.logits.ndim != 2:
            raise ValueError(f"logits must be [prompts, actions], got shape {tuple(self.logits.shape)}")
        if self.logits.dtype != torch.float64:
            object.__setattr__(self, "logits", self.logits.to(torch.float64))
        best = self.logits.detach().max(dim=1).values  # NaN propagates through max
        if not bool(best.isfinite().all()):
            bad = int((~best.isfinite()).nonzero()[0])
            raise ValueError(f"logits of prompt {bad} are NaN or all infinite: {self.logits[bad].tolist()}")

    @classmethod
    def from_probs(cls, probs: Any) -> TabularPolicy:
        """The policy with the given probabilities, [X, A] or [A] for one prompt; any array-like.

        Raises ValueError for a negative entry or a row that does not sum to 1 (tolerance 1e-9).
        """
        table = torch.as_tensor(probs, dtype=torch.float64)
        table = table.unsqueeze(0) if table.ndim == 1 else table
        total = table.sum(dim=-1)
        if bool((table < 0).any()) or not bool(((total - 1).abs() < 1e-9).all()):
            raise ValueError(f"not probabilities: rows sum to {total.tolist()}, least entry {table.min():g}")
        return cls(table.log())

    @property
    def shape(self) -> tuple[int, int]:
        """(prompts, actions)."""
        return self.logits.shape[0], self.logits.shape[1]

    def log_probs(self) -> Strategy:
        """Log-probs log pi(y|x), [X, A] in nats."""
        return self.logits.log_softmax(dim=1)

    def probs(self) -> Strategy:
        """pi(y|x), [X, A]."""
        return self.logits.softmax(dim=1)

    def entropy(self) -> PerPrompt:
        """Entropy - sum_y pi(y) log pi(y), [X] in nats."""
        return torch.special.entr(self.probs()).sum(dim=1)

    def geometric(self, other: TabularPolicy, weight: float) -> TabularPolicy:
        """Geometric mixture ~ self^(1 - weight) * other^weight, weight in [0, 1]."""
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {weight!r}")
        if weight in (0, 1):  # 0 * -inf is not a number
            return other if weight else self
        return TabularPolicy((1 - weight) * self.log_probs() + weight * other.log_probs())

    def sample(
        self, prompts: PromptIndex, count: int, generator: torch.Generator | None = None
    ) -> ResponseIndex:
        """Sample `count` i.i.d. responses for each prompt index."""
        return torch.multinomial(self.probs()[prompts], count, replacement=True, generator=generator)


def mixture(policies: Sequence[TabularPolicy], weights: Sequence[float] | None = None) -> TabularPolicy:
    """Arithmetic mixture sum_k w_k pi_k: k is drawn once per response. Default: uniform w."""
    w = torch.as_tensor(weights or [1 / len(policies)] * len(policies), dtype=torch.float64)
    if len(w) != len(policies):
        raise ValueError(f"{len(policies)} policies but {len(w)} weights")
    return TabularPolicy.from_probs(torch.einsum("k,kxa->xa", w, torch.stack([p.probs() for p in policies])))
