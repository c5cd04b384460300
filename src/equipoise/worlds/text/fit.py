"""The training loop of a round: epochs of gradient steps on its comparisons, for any objective, through Accelerate."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.objectives import Objective
from equipoise.core.objectives.base import Memory
from equipoise.core.objectives.weighted import ResponseWeighting
from equipoise.core.scores import Scores, TokenScores
from equipoise.data.collate import Ids, Response
from equipoise.data.pack import Batch
from equipoise.play.row_check import unmet
from equipoise.play.rows import Rows
from equipoise.play.schedules import at_step
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.heap import give_back
from equipoise.policy.learning_rate import Schedule, rate
from equipoise.policy.scoring.microbatch import microbatches, out_of_memory
from equipoise.policy.sharding.sharded import whole
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.step_metrics import Sums, entered_by
from equipoise.worlds.text import batch_context as whole_step
from equipoise.worlds.text.optimizers import optimizer_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training hyperparameters of a round.

    batch        comparisons per optimizer step.
    micro_batch  maximal number of comparisons per forward pass; None: as many as the policy's token budget allows.
    lr           peak learning rate; warmup is the fraction of the steps spent rising to it: a round's, or the run's
                 where the optimizer's moments go on from round to round.
    eps          AdamW's epsilon: gradients well below it are not amplified to full steps. Pair losses are flat
                 along the total mass of their responses; there the gradient is noise, and this keeps it small.
    clip         maximal global gradient norm.
    optimizer    a name of `worlds.text.optimizers.KINDS`.
    sharding     "full": several processes divide weights, gradients and moments during a fit (FSDP2); "none": each has
                 them all.
    save_every   optimizer steps between saved training positions inside a round.
    """

    epochs: int = 1
    batch: int = 64
    micro_batch: int | None = None
    lr: float = 5e-7
    schedule: Schedule = "cosine"
    warmup: float = 0.03
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip: float = 1.0
    save_every: int = 200
    optimizer: str = "adamw"
    sharding: str = "none"

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at optimizer step `step` (0-based) of `steps`."""
        return rate(step, steps, peak=self.lr, schedule=self.schedule, warmup=self.warmup)


class Reading(NamedTuple):
    """Forward outputs for B comparisons: log-probs [B, K] and lengths, or token log-probs [B, K, T] and their mask,
    and further inputs of the objective."""

    logp: Tensor
    length: Tensor
    weights: Mapping[str, Tensor] = {}
    divergences: Mapping[str, Tensor] = {}
    auxiliary: Mapping[str, Tensor] = {}
    response_weight: Tensor | None = None

    def summed(self) -> Reading:
        """The same, summed over tokens."""
        return self._replace(logp=self.logp.sum(dim=2), length=self.length.sum(dim=2))


class Scoring(Protocol):
    """How a fit scores responses under the policy being trained.

    live      whether references or an auxiliary head are in memory.
    learned   names of the token weights that an auxiliary head outputs.
    """

    policy: CausalPolicy
    objective: Objective
    live: bool

    @property
    def learned(self) -> set[str]: ...

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups; `rate` multiplies the learning rate."""
        ...

    def read(self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]) -> Reading:
        """Forward outputs for some responses."""
        ...

    def extrapolated(
        self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]
    ) -> Mapping[str, Tensor]:
        """Anchor -> log-probs [B, K] under logits extrapolated away from it, for an objective that reads them."""
        ...


class PolicyScoring:
    """Scores from the policy alone; anchor scores are cached.

    values    token values and their mask of a batch, in place of log-probs; None: log-probs.
    """

    live = False

    def __init__(
        self,
        policy: CausalPolicy,
        objective: Objective,
        values: Callable[[Batch], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.policy, self.objective, self.values = policy, objective, values

    @property
    def learned(self) -> set[str]:
        """No token weights are learned."""
        return set()

    def groups(self) -> list[dict[str, Any]]:
        """One group: the trainable parameters of the policy and of an auxiliary head."""
        return [{"params": [p for _, p in self.policy.trained()], "rate": 1.0}]

    def extrapolated(
        self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]
    ) -> Mapping[str, Tensor]:
        """Nothing: no reference is in memory."""
        return {}

    def read(self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]) -> Reading:
        """Log-probs or values of some responses, and response weights for an objective that reads them."""
        batch = self.policy.batch(prompts, responses)
        if self.values is not None:
            return Reading(*self.values(batch))
        tokens = self.objective.reads.tokens
        if not self.objective.reads.response_weights:
            return Reading(*(self.policy.token_logprobs if tokens else self.policy.logprobs)(batch))
        logp, mask, collision = self.policy.collisions(batch)
        weight = cast(ResponseWeighting, at_step(self.objective, 0)).response_weight(logp, collision, mask)
        reading = Reading(logp, mask, response_weight=weight)
        return reading if tokens else reading.summed()


class Fit:
    """One round's training. `position` counts finished optimizer steps, so that it can resume anywhere with the
    `memory` of a running statistic.

    Losses are weighted means over each optimizer step, independent of micro-batches and ranks.

    part    (i, n): the learning rate goes through the i-th of n equal parts of its schedule, counted from 0.
    """

    def __init__(
        self,
        scoring: Scoring,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        training: Training,
        accelerator: Accelerator,
        permutation: Callable[[int], np.ndarray],
        part: tuple[int, int] = (0, 1),
    ) -> None:
        objective = scoring.objective
        lack = unmet(objective, rows, live=scoring.live, learned=scoring.learned)
        if lack:
            raise TrainingError(lack)
        self.scoring, self.rows, self.anchors = scoring, rows, anchors
        self.policy = scoring.policy
        self.training, self.accelerator, self.permutation = training, accelerator, permutation
        self.descended = [
            column
            for column in range(rows.responses.shape[1])
            if column not in objective.reads.statistic_columns
        ]
        self.parameters = [p for _, p in self.policy.trained()]
        give_back()  # what sampling and scoring left, before there are gradients and moments
        optimizer = optimizer_of(scoring.groups(), training)
        # not wrapped in DDP: its forward and backward wait for the other processes, which may have failed
        self.optimizer = accelerator.prepare(optimizer)
        self.per_epoch = math.ceil(len(rows) / training.batch)
        self.steps = self.per_epoch * training.epochs
        self.position = 0
        self.memory: Memory = ()
        self.part = part

    @property
    def objective(self) -> Objective:
        """The objective with its scheduled parameters at this step."""
        return at_step(self.scoring.objective, self.position / self.steps)

    def scores(
        self, chosen: np.ndarray, columns: Sequence[int] | None = None, context: Tensor | None = None
    ) -> Scores:
        """Scores of some comparisons under the current policy, with their cached anchors.

        columns    which responses; None: those that carry a gradient.
        context    the objective's batch statistic, for each comparison.

        For a token-level objective, anchors are [N, K, T] with T the longest of all responses; rewards are [N, K, T]
        or [N, K].
        """
        columns = self.descended if columns is None else columns
        prompts = [p.ids for p in self.rows.prompts[chosen]]
        responses = [[group[k] for k in columns] for group in self.rows.responses[chosen]]
        given = self.scoring.read(prompts, responses)
        logp = given.logp
        anchors, prob, reward = self.recorded(chosen, columns, logp)
        if not self.objective.reads.tokens:
            return Scores(
                logp=logp,
                anchors=anchors,
                length=given.length.to(logp),
                prob=prob,
                reward=reward,
                batch_statistic=context,
                auxiliary=given.auxiliary,
                response_weight=given.response_weight,
            )
        by_token = reward if reward is not None and reward.ndim == 3 else None
        token_scores = TokenScores(
            logp=logp,
            mask=given.length,
            anchors=anchors,
            reward=by_token,
            weights={**self.weighed(chosen, columns, logp), **given.weights},
            divergences=given.divergences,
        )
        scores = Scores.of_tokens(token_scores, prob=prob, reward=reward if by_token is None else None)
        return replace(scores, auxiliary=given.auxiliary, response_weight=given.response_weight)

    def extrapolated(self, chosen: np.ndarray) -> Mapping[str, Tensor]:
        """Log-probs [B, K] of some comparisons under logits extrapolated away from the anchors that are read so."""
        prompts = [p.ids for p in self.rows.prompts[chosen]]
        return self.scoring.extrapolated(prompts, list(self.rows.responses[chosen]))

    def recorded(
        self, chosen: np.ndarray, columns: Sequence[int], logp: Tensor
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
        """(anchors, prob, reward) of some comparisons' columns, with the dtype and device of their log-probs."""
        rows, frozen = self.rows, partial(_frozen, chosen=chosen, columns=columns, logp=logp)
        reward = None if rows.reward is None else frozen(torch.from_numpy(rows.reward))
        prob = None if rows.prob is None else torch.from_numpy(rows.prob[chosen]).to(logp)
        return {name: frozen(anchor) for name, anchor in self.anchors.items()}, prob, reward

    def weighed(self, chosen: np.ndarray, columns: Sequence[int], logp: Tensor) -> dict[str, Tensor]:
        """Token weights stored with the rows."""
        given = self.rows.token_weights.items()
        return {name: _frozen(torch.from_numpy(w), chosen, columns, logp) for name, w in given}

    def step(self) -> dict[str, float]:
        """One optimizer step on the next batch; returns its metrics (`step_metrics`)."""
        t, ranks = self.training, self.accelerator.num_processes
        epoch, within = divmod(self.position, self.per_epoch)
        chosen = self.permutation(epoch)[within * t.batch : (within + 1) * t.batch]
        total = float(self.rows.weight[chosen].sum())
        mine = chosen[self.accelerator.process_index :: ranks]
        # with fewer comparisons than processes, the idle ones repeat the first with weight 0, so that every process has
        # the same gradients and metrics to sum
        weight = self.rows.weight[mine] if len(mine) else np.zeros(1)
        mine = mine if len(mine) else chosen[:1]
        context = whole_step.context(self, chosen, mine)
        figures = self._backward(mine, weight, context, total, ranks).reduced(self.accelerator)
        if not math.isfinite(figures["loss"]):
            raise TrainingError(
                f"the loss became {figures['loss']} at step {self.position + 1} of {self.steps}; "
                "lower train.lr, or inspect the comparisons of this step"
            )
        norm = float(whole(self.accelerator.clip_grad_norm_(self.parameters, t.clip)))
        if not math.isfinite(norm):
            raise TrainingError(
                f"the gradient became {norm} at step {self.position + 1} of {self.steps}; lower train.lr"
            )
        before, parts = self.part
        rate = t.rate(before * self.steps + self.position, parts * self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.position += 1
        return {"epoch": epoch, **figures, "grad_norm": norm, "lr": rate}

    def microbatches(self, mine: np.ndarray, columns: Sequence[int]) -> list[list[int]]:
        """Micro-batches: indices into `mine` of the comparisons in each forward pass.

        Every forward of a divided model is one of all processes: all have as many, the last of some without any.
        """
        pairs = [
            (prompt.ids, [group[k] for k in columns])
            for prompt, group in zip(self.rows.prompts[mine], self.rows.responses[mine], strict=True)
        ]
        found = microbatches(self.policy, pairs, self.training.micro_batch)
        if not self.policy.shards or self.accelerator.num_processes == 1:
            return found
        counts = self.accelerator.gather(torch.tensor([len(found)], device=self.policy.device))
        return found + [[] for _ in range(int(counts.max()) - len(found))]

    def _backward(
        self, mine: np.ndarray, weight: np.ndarray, context: Tensor | None, total: float, ranks: int
    ) -> Sums:
        """Backward pass of the step's loss, one micro-batch at a time, then the reduction over processes.

        Gradients are reduced once every process is known to have its own, so that none waits for one that failed.
        If one process is out of memory, all halve their token budgets and repeat the step: the same sum in smaller
        micro-batches. Raises TrainingError if a single comparison does not fit, or if the model is divided: its
        gradients are reduced during the backward, in which the other processes wait.
        """
        sums, shares, short = Sums(), self.microbatches(mine, self.descended), False
        try:
            for places in shares:
                held = places or [0]  # with weight 0
                read = None if context is None else context[held]
                self._add(sums, mine[held], weight[held] * bool(places), read, total, ranks)
        except RuntimeError as error:
            short = out_of_memory(error)
            if not short:
                raise
            if self.policy.shards:
                raise TrainingError(
                    f"out of memory with micro-batches of {self.policy.token_budget:,} tokens, and a step of a divided "
                    "model is not repeated; lower train.tokens, or set train.activation_checkpointing=true"
                ) from error
        if self.policy.shards:
            return sums
        failed, hopeless = self._anywhere(short, short and len(shares) == len(mine))
        if not failed:
            if ranks > 1:
                for parameter in (p for p in self.parameters if p.grad is not None):
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
            return sums
        if hopeless:
            raise TrainingError(
                "out of memory with one comparison at a time; lower data.max_length or use LoRA (model.lora_rank)"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.policy.token_budget //= 2
        log.warning("out of memory: retrying with a token budget of %d", self.policy.token_budget)
        return self._backward(mine, weight, context, total, ranks)

    def _add(
        self,
        sums: Sums,
        share: np.ndarray,
        weight: np.ndarray,
        context: Tensor | None,
        total: float,
        ranks: int,
    ) -> None:
        """Gradients and metrics of one micro-batch; its autograd graph is freed on return, also after an error."""
        scores = self.scores(share, context=context)
        entered_by(scores).retain_grad()
        losses = reduce.expected(self.objective, scores)
        counts = torch.from_numpy(weight).to(losses.value)
        self.accelerator.backward(reduce.mean(losses.value, counts, total=total, ranks=ranks))
        sums.add(scores, losses, counts / total, ranks * counts / total, self.objective)

    def _anywhere(self, *here: bool) -> list[bool]:
        """For each flag, whether it is set on any process."""
        flags = torch.tensor(here, dtype=torch.float32, device=self.policy.device)
        return (self.accelerator.reduce(flags, "sum") > 0).tolist()


def _frozen(values: Tensor, chosen: np.ndarray, columns: Sequence[int], logp: Tensor) -> Tensor:
    """Some comparisons' columns of precomputed values, cut to the longest response of the batch."""
    here = values[torch.from_numpy(chosen)][:, list(columns)].to(logp)
    return here[..., : logp.shape[-1]] if here.ndim == 3 else here
