"""The two records that cross every layer: what an objective reads, and what it returns.

An objective reads *scores* of K candidate responses per prompt, under the trained policy and under
frozen anchors. For text a score is the log-probability of the response given the prompt, summed over
its tokens; nothing here assumes tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core.dims import PerCandidate, PerComparison


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of B comparisons of K candidates each.

    Candidate 0 is the one the label prefers and candidate 1 the one it does not ("chosen", "rejected");
    further candidates carry no label (SPAC's own response is candidate 2).

    logp      [B, K] score under the trained policy, in nats; carries the gradient.
    anchors   name -> [B, K] score under a frozen policy; never carries a gradient (checked).
    prob      [B] probability that candidate 0 beats candidate 1; None means certainty (1).
    length    [B, K] number of scored tokens, for objectives on per-token means.

    Raises ValueError if a shape disagrees, an anchor requires a gradient or a probability leaves [0, 1].
    """

    logp: PerCandidate
    anchors: Mapping[str, PerCandidate] = field(default_factory=dict)
    prob: PerComparison | None = None
    length: Float[Tensor, "B K"] | None = None

    def __post_init__(self) -> None:
        if self.logp.ndim != 2:
            raise ValueError(f"logp must be [comparisons, candidates], got shape {tuple(self.logp.shape)}")
        for name, anchor in self.anchors.items():
            if anchor.shape != self.logp.shape:
                raise ValueError(
                    f"anchor {name!r} has shape {tuple(anchor.shape)}, the policy {tuple(self.logp.shape)}"
                )
            if anchor.requires_grad:
                raise ValueError(f"anchor {name!r} requires a gradient; anchors are frozen, detach it")
        if self.length is not None and self.length.shape != self.logp.shape:
            raise ValueError(
                f"length has shape {tuple(self.length.shape)}, logp has {tuple(self.logp.shape)}"
            )
        if self.prob is not None:
            if self.prob.shape != self.logp.shape[:1]:
                raise ValueError(
                    f"prob has shape {tuple(self.prob.shape)}, expected {tuple(self.logp.shape[:1])}"
                )
            if not bool(((self.prob >= 0) & (self.prob <= 1)).all()):
                raise ValueError("prob must lie in [0, 1]")

    def __len__(self) -> int:
        return self.logp.shape[0]

    def of(self, anchor: str | None = None) -> PerCandidate:
        """Scores under the policy (None) or under the named anchor. Raises KeyError naming what is there."""
        if anchor is None:
            return self.logp
        if anchor not in self.anchors:
            raise KeyError(f"no anchor {anchor!r}; this batch carries {sorted(self.anchors) or 'none'}")
        return self.anchors[anchor]

    def gap(self, anchor: str | None = None) -> PerComparison:
        """logp(chosen) - logp(rejected), under the policy or under an anchor."""
        logp = self.of(anchor)
        return logp[:, 0] - logp[:, 1]

    def log_ratio(self, anchor: str) -> PerCandidate:
        """log pi(y) - log pi_anchor(y) for every candidate."""
        return self.logp - self.of(anchor)

    def per_token(self) -> Scores:
        """The same batch with every score divided by its own length: mean token log-probs."""
        if self.length is None:
            raise ValueError("this objective reads mean token log-probs, but the batch carries no lengths")
        anchors = {name: anchor / self.length for name, anchor in self.anchors.items()}
        return replace(self, logp=self.logp / self.length, anchors=anchors)

    def swap(self) -> Scores:
        """The comparison turned round: candidates 0 and 1 exchanged together with their label."""
        order = torch.arange(self.logp.shape[1], device=self.logp.device)
        order[:2] = order[:2].flip(0)
        return replace(
            self,
            logp=self.logp[:, order],
            anchors={name: anchor[:, order] for name, anchor in self.anchors.items()},
            prob=None if self.prob is None else 1 - self.prob,
            length=None if self.length is None else self.length[:, order],
        )

    def take(self, rows: Tensor) -> Scores:
        """The comparisons at the given row indices (or boolean mask)."""
        return replace(
            self,
            logp=self.logp[rows],
            anchors={name: anchor[rows] for name, anchor in self.anchors.items()},
            prob=None if self.prob is None else self.prob[rows],
            length=None if self.length is None else self.length[rows],
        )


class Losses:
    """What an objective returns: one loss per comparison, and named diagnostics without gradient.

    `Losses(value, margin=h)`: value [B] carries the gradient; each diagnostic is [B] and is detached here.
    """

    value: PerComparison
    metrics: dict[str, PerComparison]

    def __init__(self, value: PerComparison, **metrics: PerComparison) -> None:
        if value.ndim != 1:
            raise ValueError(
                f"an objective returns one loss per comparison, got shape {tuple(value.shape)}; "
                "core/reduce.py owns the reduction"
            )
        self.value = value
        self.metrics = {name: metric.detach() for name, metric in metrics.items()}
