"""What losses do to the likelihood of chosen, rejected and unseen responses, along training from the reference.

Data sets of one pair for each prompt, best against worst of a few responses, and a log-linear policy whose features
all prompts share (see `sppo`), or a table. Responses come from the reference ("on-policy") or evenly from all
("off-policy"). A response counts as a single token: its mean token log-prob is its log-prob.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array
from equipoise.claims.draws import torch_draws
from equipoise.claims.likelihood.sppo import SAMPLES, SHARED, World, draw
from equipoise.core.objectives import Objective
from equipoise.core.scores import Scores

__all__ = ["SHARED", "TABLE", "Path", "draw", "off_policy", "train"]
TABLE = "table"


@dataclass(frozen=True, eq=False)
class Path:
    """[S, points] along one training run, means over each data set's prompts.

    margin       log-ratio of the chosen less that of the rejected response, nats.
    chosen, rejected   log-ratio to the reference, nats.
    unseen       probability of all responses but the two, less what the reference gives them.
    """

    name: str
    margin: Array
    chosen: Array
    rejected: Array
    unseen: Array

    def at(self, margin: float) -> tuple[Array, Array, Array]:
        """(chosen, rejected, unseen) of each data set, [S], where its margin first reaches this one.

        Linear between two points; the end where it never does: see `reached`.
        """
        columns = []
        for values in (self.chosen, self.rejected, self.unseen):
            rows = zip(self.margin, values, strict=True)
            columns.append(np.array([np.interp(margin, np.maximum.accumulate(m), v) for m, v in rows]))
        return columns[0], columns[1], columns[2]

    def reached(self, margin: float) -> float:
        """The share of data sets whose margin gets so far."""
        return float((self.margin.max(axis=1) >= margin).mean())


def off_policy(world: World) -> World:
    """The same prompts and judge, the responses drawn evenly from all in place of the reference."""
    generator = torch_draws(1)
    seeds, prompts, arms = world.reference.shape
    drawn = torch.rand(seeds, prompts, arms, generator=generator, dtype=torch.float64).argsort(dim=2)[
        ..., :SAMPLES
    ]
    reward = world.judged.gather(2, drawn)
    ends = torch.stack([reward.argmax(dim=2), reward.argmin(dim=2)], dim=2)
    return replace(world, pairs=drawn.gather(2, ends), use=torch.ones_like(world.use))


def train(world: World, policy: str, name: str, objective: Objective, *, steps: int, rate: float) -> Path:
    """Adam on the mean loss of each data set, from the reference."""
    seeds, prompts, arms = world.reference.shape
    shape = (seeds, prompts, arms) if policy == TABLE else (seeds, world.phi.shape[3])
    theta = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=rate)
    share = world.use / world.use.sum(dim=1, keepdim=True)
    points = sorted({round(t) for t in np.geomspace(1, steps, 60)})
    found: list[tuple[Tensor, ...]] = []
    for t in range(steps + 1):
        log_probs, losses = _forward(world, theta, objective)
        if t == 0 or t in points:
            found.append(_measure(world, log_probs.detach(), share))
        optimizer.zero_grad()
        (share * losses).sum().backward()
        optimizer.step()
    return Path(name, *(torch.stack(column, dim=1).numpy() for column in zip(*found, strict=True)))


def _forward(world: World, theta: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """(log-probs [S, X, A], losses [S, X])."""
    moved = theta if theta.ndim == 3 else torch.einsum("sxad,sd->sxa", world.phi, theta)
    log_probs = (world.reference + moved).log_softmax(dim=2)
    logp = log_probs.gather(2, world.pairs).flatten(0, 1)
    anchor = world.reference.gather(2, world.pairs).flatten(0, 1)
    scores = Scores(
        logp=logp, anchors=dict.fromkeys(objective.anchors, anchor), length=torch.ones_like(anchor)
    )
    return log_probs, objective(scores).value.view(world.use.shape)


def _measure(world: World, log_probs: Tensor, share: Tensor) -> tuple[Tensor, ...]:
    ratio = log_probs.gather(2, world.pairs) - world.reference.gather(2, world.pairs)
    unseen = world.reference.exp().gather(2, world.pairs).sum(2) - log_probs.exp().gather(2, world.pairs).sum(
        2
    )
    return tuple(
        (share * values).sum(dim=1)
        for values in (ratio[..., 0] - ratio[..., 1], ratio[..., 0], ratio[..., 1], unseen)
    )
