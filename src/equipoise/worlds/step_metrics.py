"""Training metrics of an optimizer step, as logged in metrics.jsonl (`report.metrics` explains them to users).

All are weighted means over the step's comparisons, over all micro-batches and ranks:

    loss                 the objective's value L; its unit; lower is better
    chosen_log_ratio     log pi(y_w|x) - log pi_a(y_w|x), summed over tokens; nats per response; > 0: more likely than
                         under the first anchor a (log pi(y_w|x) itself for a reference-free objective)
    rejected_log_ratio   the same of y_l. y_w, y_l are columns 0 and 1 of a labelled pair, argmax and argmin of the
                         rewards without labels, and the desirable or undesirable responses of unpaired feedback
    accuracy             fraction of pairs whose preferred response has the larger log-ratio, ties half, in [0, 1];
                         higher is better; not for unpaired feedback and single responses
    desirable            fraction of desirable responses, in [0, 1]; unpaired feedback only
    saturated            fraction of comparisons with max_k |dL/dlog pi(y_k)| below 1 % of its value at pi = anchors,
                         in [0, 1]; lower is better
    others               the objective's diagnostics (`Losses.metrics`): margin, pessimism, clipped, baseline, reward

`Fit.step` adds grad_norm (Euclidean norm of the gradient before clipping, >= 0) and lr.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.objectives import Objective
from equipoise.core.scores import Losses, Scores


class Sums:
    """Weighted sums of a step's metrics over micro-batches, then over ranks."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add(self, scores: Scores, losses: Losses, share: Tensor, scale: Tensor, objective: Objective) -> None:
        """Add a micro-batch; `share` sums to one over the step, `scale` is the factor on its gradients."""
        anchor = objective.anchors[0] if objective.anchors else None
        drift = (scores.log_ratio(anchor) if anchor else scores.logp).detach()
        slope = entered_by(scores).grad
        assert slope is not None
        pull = slope.abs().flatten(1).amax(dim=1) / scale.clamp(min=torch.finfo(scale.dtype).tiny)
        figures: dict[str, Any] = {
            "loss": losses.value.detach(),
            **losses.metrics,
            **_sides(objective, scores, drift),
            "saturated": (pull < 0.01 * _pull_at_anchor(objective, scores)).to(share),
        }
        for name, value in figures.items():
            self.values[name] = self.values.get(name, 0.0) + float((share * value).sum())

    def reduced(self, accelerator: Accelerator | None = None) -> dict[str, float]:
        """The step's metrics, summed over the accelerator's processes; without one, this process's own."""
        figures = self.values
        if accelerator is not None and accelerator.num_processes > 1:
            total = accelerator.reduce(torch.tensor(list(self.values.values())), "sum")
            figures = dict(zip(self.values, total.tolist(), strict=True))
        return _by_kind(figures) if "desirable" in figures else figures


def _sides(objective: Objective, scores: Scores, drift: Tensor) -> dict[str, Tensor]:
    """Log-ratios of the preferred and the dispreferred response: by label, or without one by reward.

    Unpaired responses enter both, weighted by their label and its complement; `_by_kind` normalises.
    """
    if objective.reads.labels:
        label, alone = scores.labels(), drift[:, 0]
        return {
            "chosen_log_ratio": label * alone,
            "rejected_log_ratio": (1 - label) * alone,
            "desirable": label,
        }
    best, worst = _columns(scores)
    chosen, rejected = drift.gather(1, best)[:, 0], drift.gather(1, worst)[:, 0]
    sides = {"chosen_log_ratio": chosen, "rejected_log_ratio": rejected}
    if scores.logp.shape[1] < 2:
        return sides
    prefers = torch.ones_like(chosen) if scores.prob is None else torch.sign(scores.prob.to(chosen) - 0.5)
    return {**sides, "accuracy": (1 + prefers * torch.sign(chosen - rejected)) / 2}


def _columns(scores: Scores) -> tuple[Tensor, Tensor]:
    """Columns [B, 1] of the preferred and the dispreferred response."""
    if scores.reward is not None and scores.prob is None:
        return scores.reward.argmax(1, keepdim=True), scores.reward.argmin(1, keepdim=True)
    zeros = torch.zeros(len(scores), 1, dtype=torch.long, device=scores.logp.device)
    return zeros, zeros + min(1, scores.logp.shape[1] - 1)


def _by_kind(figures: dict[str, float]) -> dict[str, float]:
    """Turn sums over the desirable and the undesirable responses into means; a class that is absent is omitted."""
    up = figures["desirable"]
    shares = {"chosen_log_ratio": up, "rejected_log_ratio": 1 - up}
    means = {name: figures[name] / share for name, share in shares.items() if share > 1e-9}
    return {name: value for name, value in figures.items() if name not in shares} | means


def _pull_at_anchor(objective: Objective, scores: Scores) -> Tensor:
    """[B] max |dL/dlog pi| of each comparison at pi = anchors, the scale for `saturated`."""
    zeros = torch.zeros_like(entered_by(scores), requires_grad=False)
    logp, anchors = zeros.clone().requires_grad_(), dict.fromkeys(objective.anchors, zeros)
    if scores.tokens is None:
        statistic = None if scores.batch_statistic is None else torch.zeros_like(scores.batch_statistic)
        start = replace(scores, logp=logp, anchors=anchors, batch_statistic=statistic)
    else:
        tokens = replace(scores.tokens, logp=logp, anchors=anchors)
        start = Scores.of_tokens(tokens, prob=scores.prob, reward=scores.reward)
        start = replace(start, auxiliary=scores.auxiliary, response_weight=scores.response_weight)
    value = reduce.expected(objective, start).value
    return torch.autograd.grad(value.sum(), logp)[0].abs().flatten(1).amax(dim=1)


def entered_by(scores: Scores) -> Tensor:
    """The log-probs that a loss is differentiated by: token log-probs if there are any, else responses'."""
    return scores.logp if scores.tokens is None else scores.tokens.logp
