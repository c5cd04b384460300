"""P2C, prefer to classify: a classifier that also learns which of two examples of a class is the more typical one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from equipoise.core.margins import preferences
from equipoise.core.objectives.base import not_negative
from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Examples, Split
from equipoise.worlds.labels.fit import Training, descending, fit
from equipoise.worlds.labels.measures import classified
from equipoise.worlds.labels.networks import mlp
from equipoise.worlds.labels.outcome import Outcome

Pairs = Literal["disagreement", "random"]
CANDIDATES = 16  # partners of which the one that the heads disagree on most is taken


class PreferenceNet(nn.Module):
    """A shared encoder, a classifier head, and M preference heads g_m([h; y]) in (-1, 1)."""

    def __init__(self, features: int, width: int, classes: int, heads: int, seed: Seeds) -> None:
        super().__init__()
        self.classes = classes
        self.encoder = nn.Sequential(*mlp((features, width, width), seed("encoder")), nn.ReLU())
        self.classifier = mlp((width, classes), seed("classifier"))
        self.heads = nn.ModuleList(
            mlp((width + classes, width, 1), seed("head", m), "tanh") for m in range(heads)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.encoder(x))

    def preferences(self, hidden: Tensor, label: Tensor) -> Tensor:
        """[B, M] scores of examples as examples of their label."""
        told = torch.cat([hidden, one_hot(label, self.classes).to(hidden)], dim=1)
        return torch.cat([head(told) for head in self.heads], dim=1).tanh()


@dataclass(frozen=True, kw_only=True)
class P2c:
    """Prefer to classify: cross-entropy, preferences between examples of one class, consistency, less diversity.

        L = 1/2 [ CE(x1) + CE(x2) ] + l_p mean_m CE(pref, P_m) + l_c L_cons - l_d L_div
        P_m(x1 > x2 | y) = sigma( g_m(x1) - g_m(x2) )

    preference, consistency, diversity   l_p, l_c, l_d >= 0; all 0 is plain cross-entropy on the same pairs.
    heads   M.
    pairs   the partner of an example is of its class: of 16 drawn the one that the heads disagree on most, or a random
            one. An example alone in its class has no partner; it counts by its cross-entropy.

    The preferred example of a pair is the more typical one (`Examples.typical`). Figures: accuracy, ece, and
    `preferred`, the share of held-out pairs of a class that the heads' mean puts in the right order.

    Source: Kim et al. 2023 (2306.04925), losses checked against the authors' code.
    """

    preference: float = 1.0
    consistency: float = 1.0
    diversity: float = 0.1
    heads: int = 3
    width: int = 64
    pairs: Pairs = "disagreement"
    training: Training = field(
        default_factory=lambda: Training(
            epochs=30, batch=16, rate=1e-3, optimizer="adam", weight_decay=0.0, decay=()
        )
    )

    def __post_init__(self) -> None:
        not_negative(preference=self.preference, consistency=self.consistency, diversity=self.diversity)
        if self.heads < 1 or self.pairs not in get_args(Pairs):
            raise ValueError(f"P2C needs a head or more and pairs of {get_args(Pairs)}, got {self.pairs!r}")

    def run(self, split: Split, seeds: Seeds) -> Outcome:
        train, test = split.train, split.test
        if train.typical is None:
            raise ValueError(
                "p2c needs to know which example of a class is the more typical one: a column `typical`"
            )
        network = PreferenceNet(train.x.shape[1], self.width, train.classes, self.heads, seeds)
        draws = torch.Generator().manual_seed(seeds("partners"))
        accuracy: list[float] = []

        def after(_: int) -> None:
            with torch.no_grad():
                accuracy.append(float((network(test.x).argmax(dim=1) == test.y).float().mean()))

        backward = descending(lambda index: self.loss(network, train, index, draws))
        fit(network, len(train), backward, self.training, seeds, after_epoch=after)
        with torch.no_grad():
            figures = classified(network(test.x), test) | {"preferred": ordered(network, test)}
        return Outcome(figures=figures, curves={"accuracy": tuple(accuracy)}, tensors=network.state_dict())

    def loss(self, network: PreferenceNet, train: Examples, index: Tensor, draws: torch.Generator) -> Tensor:
        """The mean loss of a batch and its partners, a scalar."""
        partner = self.partners(network, train, index, draws)
        first, second = network.encoder(train.x[index]), network.encoder(train.x[partner])
        label = train.y[index]
        logits = network.classifier(first), network.classifier(second)
        value = (cross_entropy(logits[0], label) + cross_entropy(logits[1], label)) / 2
        paired = partner != index
        if not (self.preference or self.consistency or self.diversity) or not bool(paired.any()):
            return value
        assert train.typical is not None
        prob = (torch.sign(train.typical[index] - train.typical[partner]) + 1)[paired] / 2
        g = [network.preferences(h[paired], label[paired]) for h in (first, second)]
        p = [x.softmax(dim=1).gather(1, label[:, None])[paired, 0] for x in logits]
        return (
            value
            + self.preference * preferences.preference_loss(g[0], g[1], prob).mean()
            + self.consistency * preferences.consistency_loss(p[0], p[1], prob).mean()
            - self.diversity * preferences.diversity(g[0], g[1]).mean()
        )

    @torch.no_grad()
    def partners(
        self, network: PreferenceNet, train: Examples, index: Tensor, draws: torch.Generator
    ) -> Tensor:
        """[B] another example of each one's class, or itself where there is none."""
        same = (train.y[index, None] == train.y[None, :]).float()
        same[torch.arange(len(index)), index] = 0
        alone = same.sum(dim=1) == 0
        same[alone, index[alone]] = 1
        count = 1 if self.pairs == "random" else CANDIDATES
        drawn = torch.multinomial(same, count, replacement=True, generator=draws)
        if count == 1:
            return drawn[:, 0]
        label = train.y[index].repeat_interleave(count)
        own = network.preferences(network.encoder(train.x[index]), train.y[index])
        other = network.preferences(network.encoder(train.x[drawn.flatten()]), label)
        spread = preferences.disagreement(own.repeat_interleave(count, dim=0), other).view(-1, count)
        return drawn.gather(1, spread.argmax(dim=1, keepdim=True))[:, 0]


def ordered(network: PreferenceNet, examples: Examples) -> float:
    """Share of the pairs of a class that the mean of the heads orders as `typical` does, ties in it left out."""
    assert examples.typical is not None
    score = network.preferences(network.encoder(examples.x), examples.y).mean(dim=1)
    higher = examples.typical[:, None] > examples.typical[None, :]
    higher &= examples.y[:, None] == examples.y[None, :]
    return float((score[:, None] > score[None, :])[higher].float().mean())
