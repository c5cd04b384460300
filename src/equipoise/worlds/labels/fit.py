"""Minibatch training of small networks in which the loss is data: a function of the examples' indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from equipoise.core.objectives.base import not_negative, positive
from equipoise.play.seeds import Seeds

Loss: TypeAlias = Callable[[Tensor], Tensor]  # indices of a batch [B] -> scalar
Backward: TypeAlias = Callable[[Tensor], None]  # indices of a batch -> gradients in place


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained.

    epochs    passes over the training examples, each in an order of its own.
    batch     examples of a step; the last batch of an epoch may be smaller.
    rate      learning rate; `decay` of the epochs at which it is divided by ten, as shares of all.
    """

    epochs: int = 40
    batch: int = 64
    rate: float = 0.1
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self) -> None:
        positive(rate=self.rate)
        not_negative(momentum=self.momentum, weight_decay=self.weight_decay)
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(f"epochs and batch must be 1 or more, got {self.epochs} and {self.batch}")
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f"the optimizer is sgd or adam, got {self.optimizer!r}")

    def made(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=self.rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            parameters, lr=self.rate, momentum=self.momentum, weight_decay=self.weight_decay
        )


def fit(
    module: nn.Module,
    count: int,
    backward: Backward,
    training: Training,
    seeds: Seeds,
    *,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train the module in place on `count` examples.

    backward     leaves the gradients of a batch; `descending` makes one of a loss.
    after_epoch  told the number of finished epochs.

    The order of the examples is drawn by name, (seed, "order", epoch). Raises ArithmeticError for a gradient that is
    not finite, before it is applied.
    """
    parameters = list(module.parameters())
    optimizer = training.made(parameters)
    steps_at = [round(share * training.epochs) for share in training.decay]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, steps_at)
    for epoch in range(training.epochs):
        order = torch.from_numpy(seeds.generator("order", epoch).permutation(count))
        for index in order.split(training.batch):
            optimizer.zero_grad()
            backward(index)
            if not all(p.grad is None or bool(p.grad.isfinite().all()) for p in parameters):
                raise ArithmeticError(
                    f"a gradient is not finite in epoch {epoch + 1}: use a smaller learning rate"
                )
            optimizer.step()
        schedule.step()
        if after_epoch is not None:
            after_epoch(epoch + 1)


def descending(loss: Loss) -> Backward:
    """The gradient step of a scalar loss."""

    def backward(index: Tensor) -> None:
        loss(index).backward()

    return backward
