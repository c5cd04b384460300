"""Dual-head knowledge distillation: one head learns the labels, another the teacher's logits, the encoder both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from equipoise.core.margins.distillation import aligned, logit_distillation_loss
from equipoise.core.objectives.base import not_negative, positive
from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Split
from equipoise.worlds.labels.fit import Training, fit
from equipoise.worlds.labels.measures import classified
from equipoise.worlds.labels.networks import mlp
from equipoise.worlds.labels.outcome import Outcome

Heads = Literal["labels", "teacher", "one", "two"]


class Student(nn.Module):
    """An encoder with a head for labels, which alone is used later, and one for the teacher's logits."""

    def __init__(self, features: int, width: int, classes: int, seeds: Seeds) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*mlp((features, width), seeds("student")), nn.ReLU())
        self.labels = mlp((width, classes), seeds("labels"))
        self.teacher = mlp((width, classes), seeds("teacher"))

    def forward(self, x: Tensor) -> Tensor:
        return self.labels(self.encoder(x))


@dataclass(frozen=True, kw_only=True)
class DualHead:
    """Knowledge distillation with two heads: L = gamma CE(c1, y) + alpha T^2 sum_c log cosh( (s2_c - t_c)/(2T) ).

    heads     "two": labels at c1, teacher at c2; "one": both at c1; "labels", "teacher": one of the losses at c1.
    align     the teacher's gradient loses its part against the labels' where the two contradict.
    width     of the student's hidden layer; `teacher` of the teacher's.
    jitter    standard deviation of the normal noise on the inputs.

    The teacher is trained first on the same examples by cross-entropy. Figures: accuracy and ece of the first head,
    `teacher` accuracy, and with two heads `conflict`, the share of steps in which the gradients contradict each other.

    Source: Yang et al. 2024 (2411.08937), checked against the authors' code.
    """

    heads: Heads = "two"
    align: bool = True
    alpha: float = 1.0
    gamma: float = 1.0
    temperature: float = 2.0
    width: int = 32
    teacher: int = 256
    jitter: float = 0.15
    training: Training = field(default_factory=lambda: Training(rate=0.05, decay=(0.625, 0.75, 0.875)))

    def __post_init__(self) -> None:
        positive(temperature=self.temperature)
        not_negative(alpha=self.alpha, gamma=self.gamma, jitter=self.jitter)
        if self.heads not in get_args(Heads):
            raise ValueError(f"heads must be one of {get_args(Heads)}, got {self.heads!r}")

    def run(self, split: Split, seeds: Seeds) -> Outcome:
        train, test = split.train, split.test
        taught = mlp((train.x.shape[1], self.teacher, train.classes), seeds("taught"))
        draws = torch.Generator().manual_seed(seeds("jitter"))
        conflicts: list[float] = []

        def shown(index: Tensor) -> Tensor:
            x = train.x[index]
            return x + self.jitter * torch.randn(x.shape, generator=draws)

        def teach(index: Tensor) -> None:
            cross_entropy(taught(shown(index)), train.y[index]).backward()

        fit(taught, len(train), teach, self.training, Seeds(seeds("teacher's fit")))
        taught.requires_grad_(False)
        student = Student(train.x.shape[1], self.width, train.classes, seeds)

        def learn(index: Tensor) -> None:
            x = shown(index)
            conflicts.append(self.backward(student, x, train.y[index], taught(x)))

        fit(student, len(train), learn, self.training, seeds)
        figures = classified(student(test.x), test)
        figures["teacher"] = classified(taught(test.x), test)["accuracy"]
        if self.heads == "two":
            figures["conflict"] = sum(conflicts) / len(conflicts)
        return Outcome(figures=figures, tensors=student.state_dict())

    def backward(self, student: Student, x: Tensor, label: Tensor, target: Tensor) -> float:
        """Leave the gradients of a batch; returns 1 where those of two heads contradict each other, else 0."""
        hidden = student.encoder(x)
        ce = self.gamma * cross_entropy(student.labels(hidden), label)
        head = student.teacher if self.heads == "two" else student.labels
        kd = self.alpha * logit_distillation_loss(head(hidden), target, self.temperature).mean()
        if self.heads in ("labels", "teacher"):
            (ce if self.heads == "labels" else kd).backward()
            return 0.0
        if self.heads == "one":
            (ce + kd).backward()
            return 0.0
        parameters = list(student.parameters())
        labelled, distilled = (
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(
                        loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
                    )
                ]
            )
            for loss in (ce, kd)
        )
        total = labelled + (aligned(distilled, labelled) if self.align else distilled)
        for parameter, part in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        return float(labelled @ distilled < 0)
