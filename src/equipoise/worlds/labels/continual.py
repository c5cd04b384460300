"""IBCL, imprecise Bayesian continual learning: posteriors of tasks in sequence, models for preferences from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from equipoise.core.objectives.base import not_negative, positive
from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Examples, Split
from equipoise.worlds.labels.outcome import Outcome

Weights: TypeAlias = Float[Tensor, "N"]
Preference: TypeAlias = Float[Tensor, "M"]
Phases: TypeAlias = Float[Tensor, "A"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """A mean-field normal distribution of a model's D weights: means and standard deviations [D]."""

    mean: Weights
    scale: Weights

    def distance(self, other: Posterior) -> float:
        """d = |mean - mean'|/D + |scale - scale'|/D."""
        size = len(self.mean)
        return float((self.mean - other.mean).norm() + (self.scale - other.scale).norm()) / size


@dataclass(frozen=True, kw_only=True)
class KnowledgeBase:
    """Posteriors of tasks in sequence, m for each; their convex hull holds a model for every preference over tasks.

    tasks    tasks[i][j]: the posterior of task i from prior j, the same object where an older one was near enough.
    kept     the different ones; at most m for each task, whatever the number of preferences.
    """

    tasks: tuple[tuple[Posterior, ...], ...] = ()
    kept: tuple[Posterior, ...] = ()

    def added(self, posteriors: Sequence[Posterior], threshold: float) -> KnowledgeBase:
        """With one more task; a posterior within `threshold` of a kept one is discarded and that one reused.

        Raises ValueError for a number of posteriors other than before, or a negative threshold.
        """
        if self.tasks and len(posteriors) != len(self.tasks[0]):
            raise ValueError(f"{len(self.tasks[0])} posteriors a task, got {len(posteriors)}")
        if not threshold >= 0:
            raise ValueError(f"threshold must be a number >= 0, got {threshold!r}")
        kept, own = list(self.kept), []
        earlier = len(kept)
        for posterior in posteriors:
            near = min(kept[:earlier], key=posterior.distance, default=None)
            if near is not None and posterior.distance(near) <= threshold and threshold > 0:
                own.append(near)
            else:
                kept.append(posterior)
                own.append(posterior)
        return KnowledgeBase(tasks=(*self.tasks, tuple(own)), kept=tuple(kept))

    def located(self, weights: Preference) -> Posterior:
        """q_w of a preference w over the tasks: mean sum_i (w_i/m) sum_j mean_ij, and the scales likewise; no training.

        Raises ValueError unless w has one number >= 0 for each task and adds up to 1.
        """
        if weights.shape != (len(self.tasks),) or not bool((weights >= 0).all()):
            raise ValueError(
                f"a preference has a weight >= 0 for each of {len(self.tasks)} tasks, got {weights.tolist()}"
            )
        if abs(float(weights.sum()) - 1) > 1e-6:
            raise ValueError(f"a preference adds up to 1, got {float(weights.sum()):g}")
        means = torch.stack([torch.stack([q.mean for q in own]).mean(dim=0) for own in self.tasks])
        scales = torch.stack([torch.stack([q.scale for q in own]).mean(dim=0) for own in self.tasks])
        return Posterior(mean=weights.to(means) @ means, scale=weights.to(scales) @ scales)


def central_bounds(posterior: Posterior, mass: float) -> tuple[Tensor, Tensor]:
    """The central interval of each weight with probability `mass` in (0, 1): (low [D], high [D]).

    Intervals of a larger mass contain those of a smaller one. The paper samples from the (1 - alpha) region; its code
    takes the central alpha, an interval of 1 % at alpha = 0.01, and so do we by default (`Ibcl.mass`).
    """
    if not 0 < mass < 1:
        raise ValueError(f"the mass of an interval must lie in (0, 1), got {mass!r}")
    reach = torch.special.ndtri(torch.tensor((1 + mass) / 2, dtype=posterior.scale.dtype)) * posterior.scale
    return posterior.mean - reach, posterior.mean + reach


@dataclass(frozen=True, kw_only=True)
class Ibcl:
    """IBCL on tasks made of pairs of classes (0 or 1, 2 or 3, ..): Bayesian logistic regression, variational inference.

    priors      standard deviations s_j of the m first priors N(0, s_j^2); posteriors are the next task's priors.
    threshold   distance below which a posterior is discarded; 0 keeps all.
    mass        of the central interval from which models are sampled, uniformly; `models` for each preference.
    preferences drawn from Dirichlet(1) over all tasks.
    fourier     random Fourier features added to the inputs, of `width` times the median distance.
    steps       reparameterised gradient steps for each posterior, by Adam.

    Figures, means over the preferences: `weighted` accuracy sum_i w_i acc_i of the mean of q_w; `sampled`, of models
    sampled for the first 20 of them; `sequential`, of the mean of the last task's posteriors, whatever the preference;
    `posteriors`, how many are kept. Curves: accuracy on the first and on the second task as the weight moves from the
    second to the first, in quarters.

    Source: Lu et al. 2023 (2305.14782), checked against the authors' code.
    """

    priors: tuple[float, ...] = (0.2, 0.25, 0.3)
    threshold: float = 0.01
    mass: float = 0.01
    models: int = 10
    preferences: int = 200
    fourier: int = 100
    steps: int = 400
    rate: float = 0.02
    draws: int = 4

    def __post_init__(self) -> None:
        positive(**{f"priors[{j}]": s for j, s in enumerate(self.priors)}, rate=self.rate)
        not_negative(threshold=self.threshold)
        if not self.priors or min(self.steps, self.models, self.preferences, self.draws) < 1:
            raise ValueError("priors, steps, models, preferences and draws: one or more of each")

    def run(self, split: Split, seeds: Seeds) -> Outcome:
        count = split.train.classes // 2
        if count < 2:
            raise ValueError("continual learning needs two tasks, of two classes each: four classes or more")
        lift = Fourier.drawn(split.train.x, self.fourier, torch.Generator().manual_seed(seeds("fourier")))
        trains, tests = ([task_of(part, i, lift) for i in range(count)] for part in (split.train, split.test))
        base = self.learned(trains, seeds)
        last = torch.stack([q.mean for q in base.tasks[-1]]).mean(dim=0)
        weights = torch.from_numpy(seeds.generator("preferences").dirichlet([1.0] * count, self.preferences))
        sequential = weights @ accuracies(last, tests)
        located = [base.located(w) for w in weights]
        reached = torch.stack([w @ accuracies(q.mean, tests) for w, q in zip(weights, located, strict=True)])
        generator = torch.Generator().manual_seed(seeds("models"))
        sampled = torch.stack(
            [
                torch.stack([w @ accuracies(x, tests) for x in self.sampled(q, generator)])
                for w, q in zip(weights[:20], located, strict=False)
            ]
        )
        path = torch.linspace(0, 1, 5, dtype=torch.float64)
        traded = []
        for share in path:
            w = torch.zeros(count, dtype=torch.float64)
            w[0], w[1] = share, 1 - share
            traded.append(accuracies(base.located(w).mean, tests)[:2])
        first, second = torch.stack(traded).T.tolist()
        return Outcome(
            figures={
                "weighted": float(reached.mean()),
                "sequential": float(sequential.mean()),
                "sampled": float(sampled.mean()),
                "posteriors": float(len(base.kept)),
            },
            curves={"first_task": tuple(first), "second_task": tuple(second)},
            tensors={
                f"task{i}.prior{j}.{name}": getattr(q, name).contiguous()
                for i, own in enumerate(base.tasks)
                for j, q in enumerate(own)
                for name in ("mean", "scale")
            },
        )

    def learned(self, tasks: Sequence[tuple[Tensor, Tensor]], seeds: Seeds) -> KnowledgeBase:
        """The knowledge base after all tasks, features [N, D] and labels [N] of 0 and 1 each."""
        size = tasks[0][0].shape[1]
        base = KnowledgeBase()
        priors = [
            Posterior(
                mean=torch.zeros(size, dtype=torch.float64), scale=torch.full((size,), s, dtype=torch.float64)
            )
            for s in self.priors
        ]
        for i, (x, y) in enumerate(tasks):
            found = [
                self.posterior(x, y, prior, torch.Generator().manual_seed(seeds("posterior", i, j)))
                for j, prior in enumerate(priors)
            ]
            base = base.added(found, self.threshold)
            priors = list(base.tasks[-1])
        return base

    def posterior(self, x: Tensor, y: Tensor, prior: Posterior, generator: torch.Generator) -> Posterior:
        """Variational inference: max E_q log p(y|x) - KL(q || prior) by reparameterised gradients."""
        mean = prior.mean.clone().requires_grad_()
        raw = torch.log(torch.expm1(prior.scale)).requires_grad_()
        optimizer = torch.optim.Adam([mean, raw], lr=self.rate)
        sign = 2.0 * y.double() - 1
        for _ in range(self.steps):
            scale = softplus(raw)
            noise = torch.randn(self.draws, len(mean), dtype=torch.float64, generator=generator)
            logits = x @ (mean + scale * noise).T
            fitted = softplus(-sign[:, None] * logits).sum(dim=0).mean()
            kl = (
                torch.log(prior.scale / scale)
                + (scale.square() + (mean - prior.mean).square()) / (2 * prior.scale.square())
                - 0.5
            ).sum()
            optimizer.zero_grad()
            (fitted + kl).backward()
            optimizer.step()
        return Posterior(mean=mean.detach(), scale=softplus(raw).detach())

    def sampled(self, posterior: Posterior, generator: torch.Generator) -> Tensor:
        """[models, D] models drawn uniformly from the central interval of the posterior."""
        low, high = central_bounds(posterior, self.mass)
        return low + (high - low) * torch.rand(
            self.models, len(low), dtype=torch.float64, generator=generator
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Fourier:
    """Inputs, a constant, and random Fourier features sqrt(2/F) cos(x W + b) of the Gaussian kernel."""

    weights: Float[Tensor, "N A"]
    phase: Phases

    @classmethod
    def drawn(cls, x: Tensor, count: int, generator: torch.Generator) -> Fourier:
        """With the median distance of the examples as the kernel's width."""
        width = float(torch.pdist(x[:300].double()).median())
        weights = torch.randn(x.shape[1], count, dtype=torch.float64, generator=generator) / width
        return cls(
            weights=weights, phase=2 * pi * torch.rand(count, dtype=torch.float64, generator=generator)
        )

    def __call__(self, x: Tensor) -> Tensor:
        x = x.double()
        waves = (2 / max(1, len(self.phase))) ** 0.5 * torch.cos(x @ self.weights + self.phase)
        return torch.cat([x, waves, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)


def task_of(examples: Examples, task: int, lift: Fourier) -> tuple[Tensor, Tensor]:
    """Features and labels 0 or 1 of the classes 2 i and 2 i + 1."""
    rows = torch.nonzero(examples.y // 2 == task)[:, 0]
    return lift(examples.x[rows]), examples.y[rows] % 2


def accuracies(model: Tensor, tasks: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """[T] accuracy of one model [D] on each task."""
    return torch.stack([(((x @ model) > 0).long() == y).double().mean() for x, y in tasks])
