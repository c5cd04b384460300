"""A classifier trained by any loss of labels, also under label noise: LDR, ALDR, comp-sum losses, cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Split, with_flips
from equipoise.worlds.labels.fit import Training, descending, fit
from equipoise.worlds.labels.label_losses import CompSum, LabelLoss
from equipoise.worlds.labels.measures import classified
from equipoise.worlds.labels.networks import Activation, mlp
from equipoise.worlds.labels.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Classify:
    """A multilayer perceptron with one hidden layer, trained by a loss of labels.

    noise, flips   of the training labels alone: none, class (k -> k + 1) or uniform, and its rate; see `with_flips`.
    """

    loss: LabelLoss = field(default_factory=CompSum)
    width: int = 64
    activation: Activation = "tanh"
    noise: str = "none"
    flips: float = 0.0
    training: Training = field(default_factory=Training)

    def run(self, split: Split, seeds: Seeds) -> Outcome:
        train = with_flips(split.train, self.noise, self.flips, seeds.generator("flips"))
        network = mlp((train.x.shape[1], self.width, train.classes), seeds("network"), self.activation)
        loss = self.loss.begun(len(train))
        accuracy: list[float] = []

        def after(_: int) -> None:
            with torch.no_grad():
                accuracy.append(float((network(split.test.x).argmax(dim=1) == split.test.y).float().mean()))

        backward = descending(lambda index: loss(network(train.x[index]), train.y[index], index).mean())
        fit(network, len(train), backward, self.training, seeds, after_epoch=after)
        figures = classified(network(split.test.x), split.test)
        return Outcome(figures=figures, curves={"accuracy": tuple(accuracy)}, tensors=network.state_dict())
