"""Figures of classifiers and representations: accuracy, calibration error, a linear probe."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.core.calibration import top_label_ece
from equipoise.worlds.labels.examples import Examples

PROBE_STEPS, PROBE_RIDGE = 60, 1e-3


def classified(logits: Tensor, examples: Examples) -> dict[str, float]:
    """`accuracy` in [0, 1], `ece` and `nll` (nats) of logits [N, C] on labelled examples."""
    prob = logits.detach().softmax(dim=1)
    right = logits.argmax(dim=1) == examples.y
    nll = nn.functional.cross_entropy(logits.detach(), examples.y)
    return {
        "accuracy": float(right.float().mean()),
        "ece": top_label_ece(prob.double().numpy(), examples.y.numpy()),
        "nll": float(nll),
    }


def probe(train: Tensor, label: Tensor, test: Tensor, truth: Tensor, classes: int) -> float:
    """Accuracy in [0, 1] on `test` of a linear classifier fitted to features `train` [N, D] with labels [N].

    Multinomial logistic regression on standardised features with a ridge of 1e-3, to its minimum.
    """
    centre, spread = train.mean(dim=0), train.std(dim=0).clamp(min=1e-6)
    shown, unseen = ((x - centre) / spread for x in (train.detach().double(), test.detach().double()))
    weights = torch.zeros(shown.shape[1] + 1, classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=PROBE_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(shown @ weights[:-1] + weights[-1], label)
        loss = loss + PROBE_RIDGE * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = (unseen @ weights[:-1] + weights[-1]).argmax(dim=1)
    return float((found == truth).double().mean())
