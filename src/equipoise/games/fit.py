"""Exact fits: damped Newton on the expected loss of any objective over tabular policies, to float64 precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.dims import Payoff, PerCandidate, PerComparison, PerPrompt, Strategy
from equipoise.core.objectives.base import Objective, batch_statistic_of
from equipoise.core.scores import Scores
from equipoise.games.expectation import Comparisons, scores
from equipoise.games.tabular import PromptIndex, ResponseIndex

LONGEST_STEP = 4.0  # nats per Newton step: prevents overflow along nearly flat directions
FLAT = 1e-12  # relative curvature below which a direction counts as flat
UNSEEN = 1e-14  # curvature below which a response counts as unseen, relative to the largest one
ROUNDING = 1e-14  # relative noise of a loss value


class NotConverged(RuntimeError):
    """An exact solver did not converge. `residual` is its last error, `best` its last iterate."""

    def __init__(self, message: str, *, residual: float, best: Tensor) -> None:
        super().__init__(f"{message} (residual {residual:.3g})")
        self.residual = residual
        self.best = best


def minimise(
    objective: Objective,
    prompts: PromptIndex,
    responses: ResponseIndex,
    weight: PerComparison,
    prob: PerComparison | None = None,
    reward: PerCandidate | None = None,
    context: PerComparison | None = None,
    *,
    start: Strategy,
    anchors: Mapping[str, Strategy],
    contexts: int = 1,
    tolerance: float = 1e-10,
    steps: int = 200,
) -> Strategy:
    """argmin over logits [X, A] of sum_n w_n L_n / sum_n w_n, prompt by prompt; returns its log-probs.

    prompts .. context  the comparisons, in the order of `Comparisons`: minimise(objective, *rows, start=...).
    start             [X, A] finite logits to start from.
    anchors           name -> [X, A] log-probs of the frozen policies.
    contexts          C > 1: a prompt's A columns are C contexts of A/C responses with separate softmaxes (the prompt,
                      or the prompt and an earlier answer). A row may read columns of several contexts.
    tolerance         on the gradient of each prompt's mean loss with respect to its logits (largest entry).

    Damped Newton, batched over prompts: exact second derivatives, absolute curvature in concave directions,
    none in flat ones (a response in no comparison, or with a relative weight below 1e-14, keeps its logit),
    Armijo backtracking per prompt. The loss of a row may depend on the log-probs of that row only, and must be
    smooth at the solution. Its batch statistic is recomputed before every step and held fixed within it, as in
    training: at the solution the loss is stationary given that policy's statistic. A minimum at infinity (hard labels
    under a logistic loss) is followed until the gradient is below the tolerance. Raises NotConverged if that never
    happens: for a loss that is unbounded below, such as SPAC's linear pessimism without a clip, or with a kink at its
    minimum.
    """
    whole = Comparisons(prompts, responses, weight, prob, reward, context)
    logits = start.detach().to(torch.float64).clone()
    if not bool(logits.isfinite().all()):
        raise ValueError("start must have finite logits: a response of probability 0 has no gradient")
    if contexts < 1 or logits.shape[1] % contexts:
        raise ValueError(f"contexts must divide the number of columns, {logits.shape[1]}; got {contexts}")
    total = logits.new_zeros(len(logits)).index_add(0, prompts, weight)

    residual, previous = float("inf"), float("inf")
    for _ in range(steps):
        held = _batch_statistic(objective, whole, anchors, logits, contexts)
        rows = whole._replace(weight=weight / total[prompts], batch_statistic=held)
        value, gradient, hessian = _derivatives(objective, rows, anchors, logits, contexts)
        residual = float(gradient.abs().max())
        direction = -_solve(hessian, gradient)
        longest = float(direction.abs().max())
        if residual < tolerance and longest < 1e3 * tolerance:
            # one full step from here is exact to rounding
            return _log_probs(logits + direction, contexts)
        if residual < tolerance and longest > previous / 2:
            # steps that do not shrink: rounding, or a minimum at infinity
            return _log_probs(logits, contexts)
        previous = longest
        direction = direction * (LONGEST_STEP / direction.abs().amax(dim=1, keepdim=True)).clamp(max=1)
        slope = (gradient * direction).sum(dim=1)
        length = backtrack(
            partial(_value, objective, rows, anchors, contexts=contexts),
            logits,
            direction,
            value,
            slope,
        )
        if not bool((length > 0).any()):
            break
        logits = logits + length.unsqueeze(1) * direction
    best = _log_probs(logits, contexts)
    if residual < tolerance:
        return best
    name = type(objective).__name__
    raise NotConverged(f"{name}: no smooth minimum within reach of the start", residual=residual, best=best)


def backtrack(
    value_at: Callable[[Strategy], PerPrompt],
    point: Strategy,
    direction: Strategy,
    value: PerPrompt,
    slope: PerPrompt,
    *,
    armijo: float = 1e-4,
    halvings: int = 40,
) -> PerPrompt:
    """Step length per prompt t in {1, 1/2, ...} with value(point + t d) <= value + armijo t slope; 0 if none.

    An increase within rounding error counts as none, so that the last Newton steps are accepted.
    """
    length = torch.ones_like(value)
    slack = ROUNDING * (1 + value.abs())
    for _ in range(halvings):
        reached = value_at(point + length.unsqueeze(1) * direction)
        refused = ~(reached <= value + armijo * length * slope + slack)
        if not bool(refused.any()):
            return length
        length = torch.where(refused, length / 2, length)
    return torch.where(refused, torch.zeros_like(length), length)


def _batch_statistic(
    objective: Objective, rows: Comparisons, anchors: Mapping[str, Strategy], logits: Strategy, contexts: int
) -> PerComparison | None:
    """The objective's batch statistic over all comparisons, across prompts; None if it reads none."""
    if not objective.reads.batch_statistic:
        return None
    return batch_statistic_of(objective, _scores(rows, anchors, _log_probs(logits, contexts)), rows.weight)


def _scores(rows: Comparisons, anchors: Mapping[str, Strategy], log_probs: Strategy) -> Scores:
    batch = scores(log_probs, anchors, rows.prompts, rows.responses, rows.prob, rows.reward)
    return batch if rows.batch_statistic is None else replace(batch, batch_statistic=rows.batch_statistic)


def _log_probs(logits: Strategy, contexts: int) -> Strategy:
    """Log-softmax within each of a prompt's contexts."""
    return logits.unflatten(1, (contexts, -1)).log_softmax(dim=2).flatten(1)


def gradient(
    objective: Objective, rows: Comparisons, *, start: Strategy, anchors: Mapping[str, Strategy]
) -> Strategy:
    """Exact gradient [X, A] of each prompt's mean loss in its logits, at the policy `start` (log-probs)."""
    logits = start.detach().clone().requires_grad_(True)
    total = logits.new_zeros(len(logits)).index_add(0, rows.prompts, rows.weight)
    batch = reduce.with_batch_statistic(
        objective, _scores(rows, anchors, logits.log_softmax(dim=1)), rows.weight
    )
    losses = reduce.expected(objective, batch).value
    (grad,) = torch.autograd.grad((rows.weight / total[rows.prompts] * losses).sum(), logits)
    return grad


def _value(
    objective: Objective, rows: Comparisons, anchors: Mapping[str, Strategy], logits: Strategy, contexts: int
) -> PerPrompt:
    with torch.no_grad():
        batch = _scores(rows, anchors, _log_probs(logits, contexts))
        losses = rows.weight * reduce.expected(objective, batch).value
    return logits.new_zeros(len(logits)).index_add(0, rows.prompts, losses)


def _derivatives(
    objective: Objective, rows: Comparisons, anchors: Mapping[str, Strategy], logits: Strategy, contexts: int
) -> tuple[PerPrompt, Strategy, Payoff]:
    """Value [X], gradient [X, A] and Hessian [X, A, A] of each prompt's mean loss in the logits.

    Derivatives of a row are taken in its own K log-probs (K small backward passes, independent of A), scattered
    to the table, and propagated through log-softmax: with J = I - 1 p^T, gradient J^T g and Hessian
    J^T H J - (sum g)(diag p - p p^T), where 1 p^T, sum and p p^T stay within a context.
    """
    prompts, actions = logits.shape
    log_probs = _log_probs(logits, contexts)
    probs = log_probs.exp()
    batch = _scores(rows, anchors, log_probs)
    batch.logp.requires_grad_(True)
    losses = rows.weight * reduce.expected(objective, batch).value
    first, second = _row_derivatives(losses, batch.logp)

    value = logits.new_zeros(prompts).index_add(0, rows.prompts, losses.detach())
    cell = rows.prompts.unsqueeze(1) * actions + rows.responses
    g = logits.new_zeros(prompts * actions).index_add(0, cell.flatten(), first.flatten()).view_as(logits)
    square = cell.unsqueeze(2) * actions + rows.responses.unsqueeze(1)
    h = logits.new_zeros(prompts * actions**2).index_add(0, square.flatten(), second.flatten())
    h = h.view(prompts, actions, actions)

    same = torch.block_diag(*[logits.new_ones(actions // contexts, actions // contexts)] * contexts)
    share = same * probs.unsqueeze(1)  # 1 p^T within each context
    mass = g @ same
    inner = h - share.mT @ h
    inner = inner - inner @ share
    spread = torch.diag_embed(mass * probs) - (mass * probs).unsqueeze(2) * share
    return value, g - mass * probs, inner - spread


def _row_derivatives(
    losses: PerComparison, logp: PerCandidate
) -> tuple[PerCandidate, Float[Tensor, "B K K"]]:
    (first,) = torch.autograd.grad(losses.sum(), logp, create_graph=True)
    columns = []
    for k in range(logp.shape[1]):
        # the gradient of a linear loss has no graph: zero curvature
        column = None
        if first.requires_grad:
            (column,) = torch.autograd.grad(first[:, k].sum(), logp, retain_graph=True, allow_unused=True)
        columns.append(torch.zeros_like(logp) if column is None else column)
    return first.detach(), torch.stack(columns, dim=2)


def _solve(hessian: Payoff, gradient: Strategy) -> Strategy:
    """Newton direction |H|^+ g: absolute eigenvalues, flat directions dropped, after scaling to unit diagonal.

    Without the scaling a response that is sampled once in 10^9 draws would look flat.
    """
    diagonal = hessian.diagonal(dim1=1, dim2=2).abs()
    seen = diagonal > UNSEEN * diagonal.amax(dim=1, keepdim=True)
    scale = torch.where(seen, diagonal.rsqrt(), torch.zeros_like(diagonal))
    values, vectors = torch.linalg.eigh(hessian * scale.unsqueeze(2) * scale.unsqueeze(1))
    size = values.abs()
    inverse = torch.where(size > FLAT * size.amax(dim=1, keepdim=True), 1 / size, torch.zeros_like(size))
    along = torch.einsum("xai,xa->xi", vectors, gradient * scale)
    return scale * torch.einsum("xai,xi->xa", vectors, inverse * along)
