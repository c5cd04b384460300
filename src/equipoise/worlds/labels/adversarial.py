"""Classifiers that withstand perturbed inputs: smooth adversarial comp-sum losses, PGD training, TRADES, plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.label_margins import PhiLink, label_margins, margin_loss
from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Examples, Split
from equipoise.worlds.labels.fit import Training, descending, fit
from equipoise.worlds.labels.measures import classified
from equipoise.worlds.labels.networks import mlp
from equipoise.worlds.labels.outcome import Outcome

Defence = Literal["smooth", "pgd", "trades", "none"]
ATTACK_STEPS = 20  # of the attack by which robustness is read


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Adversarial training under perturbations of size gamma in the maximum norm.

        smooth    Phi_tau( sum_{k != y} exp(-D_k(x)/rho) ) + nu sup_x' |D(x') - D(x)|_2       comp-sum losses
        pgd       cross-entropy at x' = argmax of it
        trades    cross-entropy at x + nu sup_x' KL( p(x) || p(x') )
        none      cross-entropy at x

    D_k = h_y - h_k; nu >= sqrt(n - 1)/rho makes the smooth loss an upper bound of the robust margin loss. The
    supremum is approximated by projected gradient ascent, in [0, 1] where the features are pixels.
    Figures: accuracy on clean examples, and `robust` accuracy under an attack on the cross-entropy of 20 steps.

    Source: Mao et al. 2023 (2304.07288), the smooth loss and its constants RECALLED; Madry et al. 2018 (1706.06083) for
    the attack, Zhang et al. 2019 (1901.08573) for TRADES.
    """

    defence: Defence = "smooth"
    tau: float = 0.4
    rho: float = 1.0
    nu: float = 0.3
    gamma: float = 0.15
    steps: int = 10
    width: int = 64
    training: Training = field(
        default_factory=lambda: Training(rate=3e-3, optimizer="adam", weight_decay=1e-4, decay=())
    )

    def __post_init__(self) -> None:
        positive(rho=self.rho)
        not_negative(tau=self.tau, nu=self.nu, gamma=self.gamma)
        if self.steps < 1:
            raise ValueError(f"an attack needs a step or more, got {self.steps!r}")
        if self.defence not in get_args(Defence):
            raise ValueError(f"defence must be one of {get_args(Defence)}, got {self.defence!r}")

    def run(self, split: Split, seeds: Seeds) -> Outcome:
        train = split.train
        network = mlp((train.x.shape[1], self.width, train.classes), seeds("network"))
        draws = torch.Generator().manual_seed(seeds("perturbations"))
        backward = descending(lambda index: self.loss(network, train.take(index), draws))
        fit(network, len(train), backward, self.training, seeds)
        attacked = perturbed(
            network,
            split.test,
            lambda x: cross_entropy(network(x), split.test.y),
            self.gamma,
            ATTACK_STEPS,
            draws,
        )
        robust = (network(attacked).argmax(dim=1) == split.test.y).float().mean()
        figures = classified(network(split.test.x), split.test) | {"robust": float(robust)}
        return Outcome(figures=figures, tensors=network.state_dict())

    def loss(self, network: nn.Module, batch: Examples, draws: torch.Generator) -> Tensor:
        """The mean training loss of a batch, a scalar."""
        clean = network(batch.x)
        if self.defence == "none":
            return cross_entropy(clean, batch.y)
        if self.defence == "pgd":
            ascent = perturbed(
                network, batch, lambda x: cross_entropy(network(x), batch.y), self.gamma, self.steps, draws
            )
            return cross_entropy(network(ascent), batch.y)
        if self.defence == "trades":
            told = clean.log_softmax(dim=1)
            fixed = told.detach()

            def away(x: Tensor) -> Tensor:
                return kl_div(network(x).log_softmax(dim=1), fixed, log_target=True, reduction="batchmean")

            ascent = perturbed(network, batch, away, self.gamma, self.steps, draws)
            moved = network(ascent).log_softmax(dim=1)
            return cross_entropy(clean, batch.y) + self.nu * kl_div(
                moved, told, log_target=True, reduction="batchmean"
            )
        margins = label_margins(clean, batch.y)
        plain = margin_loss(margins, temperature=self.rho, link=PhiLink(tau=self.tau)).mean()
        if self.nu == 0 or self.gamma == 0:
            return plain
        kept = margins.detach()

        def unstable(x: Tensor) -> Tensor:
            return (label_margins(network(x), batch.y) - kept).norm(dim=1).sum()

        ascent = perturbed(network, batch, unstable, self.gamma, self.steps, draws)
        return plain + self.nu * (label_margins(network(ascent), batch.y) - margins).norm(dim=1).mean()


def perturbed(
    network: nn.Module,
    batch: Examples,
    climbed: Callable[[Tensor], Tensor],
    gamma: float,
    steps: int,
    draws: torch.Generator,
) -> Tensor:
    """Features within gamma of the batch's in the maximum norm that make `climbed` large: projected gradient ascent.

    It begins at random in the ball; a step is 2.5 gamma/steps of the gradient's sign. Pixels stay in [0, 1]. The
    gradients of the network's weights are left as they are.
    """
    origin = batch.x
    noise = torch.rand(origin.shape, generator=draws) * 2 - 1
    x = origin + gamma * noise
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(climbed(x), x)
        x = x + 2.5 * gamma / steps * slope.sign()
        x = torch.minimum(torch.maximum(x, origin - gamma), origin + gamma)
        if batch.side is not None:
            x = x.clamp(0, 1)
    return x.detach()
