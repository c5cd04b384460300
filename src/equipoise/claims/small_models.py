"""Small policies with shared parameters, many independent copies side by side, descended by Adam.

S copies of one experiment (data sets, games, seeds) are rows of one table: copy s and prompt x are row s X + x of every
[S X, A] table, so that `games.expectation` looks up their scores as those of one big finite game. The objectives are
those of `core`; nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy.stats import ttest_ind
from torch import Tensor

from equipoise.claims.claim import Array, Line, interval
from equipoise.core import reduce
from equipoise.core.dims import PerPrompt, Strategy
from equipoise.core.objectives.base import Objective
from equipoise.games.expectation import Comparisons, scores

Parameters: TypeAlias = Float[Tensor, "S D"]
Feed: TypeAlias = Callable[[Strategy], tuple[Comparisons, Mapping[str, Strategy]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearSoftmax:
    """log pi(y|x) = log softmax_y( log ref(y|x) + phi(x, y) . theta ), theta [S, D], one per copy.

    reference    [S, X, A] log-probs of the policy at theta = 0.
    features     [S, X, A, D] phi; a leading 1 serves every copy.
    contexts     C > 1 where a prompt's A columns are C contexts of A/C responses, each with its own softmax.
    """

    reference: Float[Tensor, "S X A"]
    features: Float[Tensor, "S X A D"]
    contexts: int = 1

    @classmethod
    def tabular(cls, reference: Float[Tensor, "S X A"]) -> LinearSoftmax:
        """One parameter for every response of every prompt."""
        prompts, actions = reference.shape[1:]
        eye = torch.eye(prompts * actions, dtype=reference.dtype)
        return cls(reference=reference, features=eye.view(1, prompts, actions, -1))

    def start(self) -> Parameters:
        """theta = 0, the reference."""
        return torch.zeros(len(self.reference), self.features.shape[-1], dtype=torch.float64)

    def log_probs(self, theta: Parameters) -> Strategy:
        """[S X, A]."""
        features = self.features.expand(len(theta), -1, -1, -1)
        moved = (features.flatten(1, 2) @ theta.unsqueeze(2)).view_as(self.reference)
        logits = (self.reference + moved).flatten(0, 1)
        return logits.unflatten(1, (self.contexts, -1)).log_softmax(dim=2).flatten(1)


def descend(
    objective: Objective,
    model: LinearSoftmax,
    start: Parameters,
    feed: Feed,
    *,
    steps: int,
    rate: float,
    bound: float | None = None,
) -> Parameters:
    """Adam on each copy's loss from `start`; returns theta.

    feed     the policy's log-probs [S X, A] (detached) -> comparisons and anchors of this step. Their weights need
             no common scale: Adam divides each coordinate by its own gradient's size.
    bound    |theta| <= bound, restored after every step: a bounded class of policies.

    Copies share nothing: the sum of their losses is descended, and Adam treats each coordinate alone.
    """
    theta = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([theta], lr=rate)
    for _ in range(steps):
        table = model.log_probs(theta)
        rows, anchors = feed(table.detach())
        found = scores(table, anchors, rows.prompts, rows.responses, rows.prob, rows.reward)
        found = replace(found, length=torch.ones_like(found.logp))  # a response is one token
        if objective.reads.batch_statistic:
            if len(theta) > 1:
                raise ValueError("copies share nothing, but this objective reads the whole batch")
            found = reduce.with_batch_statistic(objective, found, rows.weight)
        loss = reduce.mean(reduce.expected(objective, found).value, rows.weight, total=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if bound is not None:
            with torch.no_grad():
                theta.clamp_(-bound, bound)
    return theta.detach()


def always(rows: Comparisons, **anchors: Strategy) -> Feed:
    """The feed of recorded comparisons and frozen anchors."""
    return lambda _: (rows, anchors)


def draw(probs: Strategy, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """`count` independent responses from each row of probabilities [N, A]: [N, count]."""
    return choose(probs, rng.random((len(probs), count)))


def choose(probs: Strategy, uniforms: Array) -> npt.NDArray[np.int64]:
    """The responses that the uniform numbers [N, K] pick from rows of probabilities [N, A], by inverse CDF."""
    reached = probs.cumsum(dim=1).numpy()
    return np.minimum((uniforms[:, :, None] > reached[:, None, :]).sum(axis=2), reached.shape[1] - 1)


def kl_rows(first: Strategy, second: Strategy) -> PerPrompt:
    """KL of each row of log-probs from the other's, in nats."""
    return torch.where(first.isfinite(), first.exp() * (first - second), torch.zeros_like(first)).sum(dim=1)


def difference(first: Array, second: Array) -> tuple[float, float, float]:
    """mean(first) - mean(second) of independent samples, [seeds] each, and Welch's 95 % interval: (mean, low, high)."""
    found = ttest_ind(first, second, equal_var=False)
    low, high = found.confidence_interval(0.95)
    return float(first.mean() - second.mean()), float(low), float(high)


def line(name: str, x: Sequence[float], values: Array, *, log: bool = False) -> Line:
    """A curve of means over seeds with its interval, values [seeds, len(x)].

    log    for a log axis, where an interval that reaches 0 has no place: it ends at a tenth of the mean.
    """
    mean, low, high = interval(values)
    if log:
        low = np.maximum(low, mean / 10)
    return Line(name, tuple(map(float, x)), tuple(mean.tolist()), tuple(low.tolist()), tuple(high.tolist()))


def by_copy(values: PerPrompt, copies: int) -> Array:
    """Mean over each copy's prompts, [S]."""
    return values.view(copies, -1).mean(dim=1).numpy()
