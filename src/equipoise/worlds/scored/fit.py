"""Minibatch training of a small policy on a round's comparisons, for any objective that reads whole responses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.objectives import Objective
from equipoise.core.objectives.base import Memory
from equipoise.core.scores import Scores
from equipoise.play.row_check import unmet
from equipoise.play.rows import Rows
from equipoise.play.schedules import at_step
from equipoise.policy.learning_rate import Schedule, rate
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.scored.anchors import FrozenScores
from equipoise.worlds.scored.examples import Examples
from equipoise.worlds.scored.policies import Policy, moments_of, restore_moments
from equipoise.worlds.scored.task import Draw, Score
from equipoise.worlds.step_metrics import Sums

STEP_ZERO = {torch.float64: 1e-9, torch.float32: 1e-4}  # of 1 + |score|, in any other dtype 1e-2


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training hyperparameters of a round.

    steps       optimizer steps of a fit. A descent takes one pass over its comparisons.
    batch       comparisons per step.
    lr          peak learning rate of AdamW; warmup is the share of a fit's steps spent rising to it.
    clip        maximal global gradient norm.
    save_every  steps between saved training positions inside a fit.
    """

    steps: int = 500
    batch: int = 64
    lr: float = 1e-3
    schedule: Schedule = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip: float = math.inf
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "lr", "eps", "clip", "save_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")


def unreadable(objective: Objective) -> str | None:
    """What an objective reads that scores of whole examples cannot give, as a sentence; None if it reads no such."""
    reads = objective.reads
    finer = {
        "single tokens": reads.tokens,
        "a weight of each response by its tokens' probabilities": reads.response_weights,
        "models kept in memory during training": bool(reads.live),
    }
    for what, read in finer.items():
        if read:
            return (
                f"{type(objective).__name__} reads {what}, which a world of whole examples does not have; choose a "
                "method on scores of whole responses, such as dpo, ipo or cpl"
            )
    return None


class Fit:
    """One minimisation, or one pass of gradient steps. `position` counts finished steps, so that it resumes anywhere.

    begin   the policy that it starts from; its moments are taken up.
    seed    name and position -> seed of a draw.
    same    anchors whose policy is the one it starts from: their log-ratios must be 0 at step 0.

    Raises TrainingError for an objective that the comparisons cannot supply.
    """

    def __init__(
        self,
        score: Score,
        examples: Examples,
        rows: Rows,
        anchors: FrozenScores,
        objective: Objective,
        training: Training,
        *,
        begin: Policy,
        steps: int,
        seed: Callable[[str, int], int],
        same: frozenset[str] = frozenset(),
    ) -> None:
        lack = unreadable(objective) or unmet(objective, rows, live=False, learned=frozenset())
        if lack:
            raise TrainingError(lack)
        if not len(rows):
            raise TrainingError(
                "this round has no comparisons to train on: all its pairs are of equal responses"
            )
        self.score, self.examples, self.rows, self.anchors = score, examples, rows, anchors
        self.whole, self.training, self.steps, self.seed, self.same = objective, training, steps, seed, same
        self.parameters = {n: p.detach().clone().requires_grad_() for n, p in begin.parameters.items()}
        t = training
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=t.lr,
            betas=(t.beta1, t.beta2),
            eps=t.eps,
            weight_decay=t.weight_decay,
        )
        restore_moments(self.optimizer, list(self.parameters), begin.moments)
        self.per_epoch = math.ceil(len(rows) / t.batch)
        self.position = 0
        self.memory: Memory = ()
        self.step_zero: float | None = None

    @property
    def objective(self) -> Objective:
        """The objective with its scheduled parameters at this step."""
        return at_step(self.whole, self.position / self.steps)

    @property
    def policy(self) -> Policy:
        """The policy and the optimizer's moments as they are now."""
        parameters = {name: p.detach().clone() for name, p in self.parameters.items()}
        return Policy(parameters, moments_of(self.optimizer, list(self.parameters)))

    def resume(self, policy: Policy, position: int, memory: Memory) -> None:
        """Go on from a saved position."""
        for name, value in policy.parameters.items():
            self.parameters[name].data.copy_(value)
        restore_moments(self.optimizer, list(self.parameters), policy.moments)
        self.position, self.memory = position, memory

    def batch(self) -> np.ndarray:
        """The comparisons of this step: each epoch is a permutation addressed by its number."""
        epoch, within = divmod(self.position, self.per_epoch)
        order = np.random.Generator(np.random.Philox(self.seed("batches", epoch))).permutation(len(self.rows))
        return order[within * self.training.batch : (within + 1) * self.training.batch]

    def scores(self, chosen: np.ndarray) -> Scores:
        """Scores of some comparisons under the current policy and its anchors, with this step's random numbers."""
        own = {name: value.detach() for name, value in self.parameters.items()}
        draw = Draw(self.seed("score", self.position if self.score.fresh else 0), own)
        examples = self.examples.tensors(self.rows.responses[chosen])
        prompts = torch.from_numpy(self.rows.prompts[chosen])
        logp = self.score(self.parameters, examples, prompts, draw)
        return Scores(
            logp=logp,
            anchors={
                name: self.anchors.at(name, chosen, examples, prompts, draw).to(logp) for name in self.anchors
            },
            length=self.score.lengths(examples).to(logp),
            prob=_of(self.rows.prob, chosen, logp),
            reward=_of(self.rows.reward, chosen, logp),
        )

    def step(self) -> dict[str, float]:
        """One optimizer step; returns its metrics (`worlds.step_metrics`).

        Raises TrainingError if the loss or its gradient is not finite, or if the policy differs from its own anchor
        before the first step.
        """
        t, objective, chosen = self.training, self.objective, self.batch()
        scores = self.scores(chosen)
        if not self.position:
            self._check_step_zero(scores)
        weight = torch.from_numpy(self.rows.weight[chosen]).to(scores.logp)
        if objective.reads.batch_statistic:
            self.memory, statistic = reduce.step_statistic(objective, scores, weight, self.memory)
            scores = replace(scores, batch_statistic=statistic)
        scores.logp.retain_grad()
        losses = reduce.expected(objective, scores)
        reduce.mean(losses.value, weight).backward()
        share = weight / weight.sum()
        sums = Sums()
        sums.add(scores, losses, share, share, objective)
        figures = sums.reduced()
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), t.clip))
        for name, value in (("loss", figures["loss"]), ("gradient", norm)):
            if not math.isfinite(value):
                raise TrainingError(
                    f"the {name} became {value} at step {self.position + 1} of {self.steps}; lower train.lr"
                )
        lr = rate(self.position, self.steps, peak=t.lr, schedule=t.schedule, warmup=t.warmup)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.position += 1
        return {**figures, "grad_norm": norm, "lr": lr}

    def _check_step_zero(self, scores: Scores) -> None:
        """Measure the largest log-ratio of the policy to its own anchor, relative to 1 + |score|."""
        for name in self.same:
            ratio = scores.log_ratio(name).detach().abs() / (1 + scores.logp.detach().abs())
            found = float(ratio.max())
            self.step_zero = max(self.step_zero or 0.0, found)
            if not found <= STEP_ZERO.get(scores.logp.dtype, 1e-2):
                raise TrainingError(
                    f"before the first step the policy's scores differ from its own anchor's by {found:.2g} of their "
                    "size: the score must give equal numbers for equal parameters and draws"
                )


def _of(values: np.ndarray | None, chosen: np.ndarray, like: Tensor) -> Tensor | None:
    return None if values is None else torch.from_numpy(values[chosen]).to(like)


def mean_loss(
    fit: Fit,
) -> float:
    """Mean loss of the starting policy on all comparisons; nothing is trained."""
    with torch.no_grad():
        scores = fit.scores(np.arange(len(fit.rows)))
        weight = torch.from_numpy(fit.rows.weight).to(scores.logp)
        scores = reduce.with_batch_statistic(fit.objective, scores, weight)
        return float(reduce.mean(reduce.expected(fit.objective, scores).value, weight))


Log = Callable[[Mapping[str, float]], None]
