"""Scores and Losses, the two records that cross every layer: inputs and outputs of an objective.

An objective reads *scores* of K candidate responses per prompt, under the trained policy and under
frozen anchors. For text a score is the log-probability of the response given the prompt, summed over
its tokens; nothing here assumes tokens. A token-level objective reads `Scores.tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from equipoise.core.dims import PerCandidate, PerComparison, PerPlace


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """Scores of B comparisons of K candidates, token by token; T is the longest response of the batch.

    logp      [B, K, T] log-prob of each scored token under the trained policy, in nats; carries the gradient.
    mask      [B, K, T] True where the response has a token. Everything else here is 0 where it has none.
    anchors   name -> [B, K, T] the same under a frozen policy; never carries a gradient (checked).
    reward    [B, K, T] per token, for policy gradients: an advantage.
    weights   name -> [B, K, T] token weights: a mask, the share of a step. Constants, unless an auxiliary
              head trained jointly with the policy gives them.
    divergences   anchor -> [B, K, T] KL(pi_anchor(.|y_<k) || pi(.|y_<k)) over the whole vocabulary, in nats, at the
              token's position; carries the gradient.

    Raises ValueError if a shape disagrees, anything but an anchor or a reward is not 0 outside the mask, or an anchor
    requires a gradient.
    """

    logp: PerPlace
    mask: Bool[Tensor, "B K T"]
    anchors: Mapping[str, PerPlace] = field(default_factory=dict)
    reward: PerPlace | None = None
    weights: Mapping[str, PerPlace] = field(default_factory=dict)
    divergences: Mapping[str, PerPlace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.logp.ndim != 3:
            raise ValueError(
                f"logp must be [comparisons, candidates, tokens], got shape {tuple(self.logp.shape)}"
            )
        summed = {f"weight {name!r}": weight for name, weight in self.weights.items()}
        summed |= {f"divergence {name!r}": divergence for name, divergence in self.divergences.items()}
        for name, values in (("mask", self.mask), ("reward", self.reward), *summed.items()):
            if values is not None and values.shape != self.logp.shape:
                raise ValueError(f"{name} has shape {tuple(values.shape)}, logp has {tuple(self.logp.shape)}")
        _check_anchors(self.anchors, self.logp)
        for name, values in (("log-prob", self.logp), *summed.items()):
            if bool((values.detach() != 0)[~self.mask].any()):
                raise ValueError(f"a {name} outside the mask is not 0: it would count as a token")

    def of(self, anchor: str) -> PerPlace:
        """Token log-probs under the named anchor, [B, K, T]. Raises KeyError that lists the available anchors."""
        return _named(self.anchors, anchor)

    def log_ratio(self, anchor: str) -> PerPlace:
        """log pi(y_k|y_<k) - log pi_anchor(y_k|y_<k) for every token."""
        return self.logp - self.of(anchor)

    def rewards(self) -> PerPlace:
        """The tokens' rewards. Raises ValueError if the batch carries none."""
        return _rewards(self.reward, "token")

    def weight(self, name: str) -> PerPlace:
        """The named weight of every token, [B, K, T]. Raises ValueError that lists the available ones."""
        return _carried(self.weights, name, "token weight")

    def divergence(self, anchor: str) -> PerPlace:
        """Next-token KL(pi_anchor || pi), [B, K, T]. Raises ValueError that lists the available anchors."""
        return _carried(self.divergences, anchor, "divergence from the anchor")

    def at(self, index: Any) -> TokenScores:
        """The comparisons or candidates at an index of the first two dimensions."""
        return TokenScores(
            logp=self.logp[index],
            mask=self.mask[index],
            anchors={name: anchor[index] for name, anchor in self.anchors.items()},
            reward=None if self.reward is None else self.reward[index],
            weights={name: weight[index] for name, weight in self.weights.items()},
            divergences={name: divergence[index] for name, divergence in self.divergences.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of B comparisons of K candidates each.

    Candidate 0 is the one the label prefers and candidate 1 the one it does not ("chosen", "rejected");
    further candidates carry no label (SPAC's own response is candidate 2).

    logp      [B, K] score under the trained policy, in nats; carries the gradient.
    anchors   name -> [B, K] score under a frozen policy; never carries a gradient (checked).
    prob      [B] probability that candidate 0 beats candidate 1; None means certainty (1).
    length    [B, K] number of scored tokens, for objectives on per-token means.
    reward    [B, K] per candidate, instead of a pair label; its meaning is the pairing's choice:
              with `Reads(rewards=True)`   a win rate against an opponent, a reward model's score, an advantage,
                                           or (margin, 0) of a recorded pair, read by `rewards()`;
              with `Reads(labels=True)`    column 0 is the label of a single response, 1 desirable and 0 undesirable,
                                           read by `labels()`; further columns are ignored.
    response_weight   [B, K] a weight >= 0 for each candidate, without gradient.
    batch_statistic   [B] a statistic of the WHOLE batch, without gradient; see `reduce.with_batch_statistic`. For pairs
              it is a margin and changes sign when the pair is swapped.
    tokens    the same scores token by token; see `Scores.of_tokens`.
    auxiliary   name -> [B, K] outputs of an auxiliary head trained jointly with the policy; carry the gradient.
    extrapolated   anchor -> [B, K] log-probs under logits extrapolated away from it, without gradient.

    An objective's `Reads` declares which of these it reads. Raises ValueError if a shape disagrees, an anchor or weight
    requires a gradient, or a probability leaves [0, 1].
    """

    logp: PerCandidate
    anchors: Mapping[str, PerCandidate] = field(default_factory=dict)
    prob: PerComparison | None = None
    length: Float[Tensor, "B K"] | None = None
    reward: PerCandidate | None = None
    response_weight: PerCandidate | None = None
    batch_statistic: PerComparison | None = None
    tokens: TokenScores | None = None
    auxiliary: Mapping[str, PerCandidate] = field(default_factory=dict)
    extrapolated: Mapping[str, PerCandidate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.logp.ndim != 2:
            raise ValueError(f"logp must be [comparisons, candidates], got shape {tuple(self.logp.shape)}")
        _check_anchors(self.anchors, self.logp)
        if self.tokens is not None and self.tokens.logp.shape[:2] != self.logp.shape:
            raise ValueError(
                f"tokens have shape {tuple(self.tokens.logp.shape)}, logp has {tuple(self.logp.shape)}"
            )
        given = {"length": self.length, "reward": self.reward, "response_weight": self.response_weight}
        given |= {f"auxiliary output {name!r}": values for name, values in self.auxiliary.items()}
        given |= {f"extrapolation from {name!r}": values for name, values in self.extrapolated.items()}
        for name, values in given.items():
            if values is not None and values.shape != self.logp.shape:
                raise ValueError(f"{name} has shape {tuple(values.shape)}, logp has {tuple(self.logp.shape)}")
        if self.response_weight is not None and self.response_weight.requires_grad:
            raise ValueError("response_weight requires a gradient; weights are constants, detach them")
        statistic = self.batch_statistic
        if statistic is not None and (statistic.requires_grad or len(statistic) != len(self.logp)):
            raise ValueError("batch_statistic must be one number per comparison, without gradient: detach it")
        if self.prob is not None:
            if self.prob.shape != self.logp.shape[:1]:
                raise ValueError(
                    f"prob has shape {tuple(self.prob.shape)}, expected {tuple(self.logp.shape[:1])}"
                )
            if not bool(((self.prob >= 0) & (self.prob <= 1)).all()):
                raise ValueError("prob must lie in [0, 1]")

    @classmethod
    def of_tokens(
        cls,
        tokens: TokenScores,
        prob: PerComparison | None = None,
        reward: PerCandidate | None = None,
    ) -> Scores:
        """Response scores from token scores: sums over each response's tokens, and the tokens themselves.

        reward    of the responses; by default the sum of their token rewards, if any.
        """
        summed = None if tokens.reward is None else tokens.reward.sum(dim=2)
        return cls(
            logp=tokens.logp.sum(dim=2),
            anchors={name: anchor.sum(dim=2) for name, anchor in tokens.anchors.items()},
            prob=prob,
            length=tokens.mask.sum(dim=2).to(tokens.logp),
            reward=summed if reward is None else reward,
            tokens=tokens,
        )

    def by_token(self) -> TokenScores:
        """The token scores; without them, a response counts as a single token."""
        if self.tokens is not None:
            return self.tokens
        return TokenScores(
            logp=self.logp[..., None],
            mask=torch.ones_like(self.logp[..., None], dtype=torch.bool),
            anchors={name: anchor[..., None] for name, anchor in self.anchors.items()},
            reward=None if self.reward is None else self.reward[..., None],
        )

    def __len__(self) -> int:
        return self.logp.shape[0]

    def of(self, anchor: str | None = None) -> PerCandidate:
        """Scores under the policy (None) or an anchor, [B, K]. Raises KeyError that lists the available anchors."""
        return self.logp if anchor is None else _named(self.anchors, anchor)

    def gap(self, anchor: str | None = None) -> PerComparison:
        """logp(chosen) - logp(rejected), under the policy or under an anchor."""
        logp = self.of(anchor)
        return logp[:, 0] - logp[:, 1]

    def log_ratio(self, anchor: str) -> PerCandidate:
        """log pi(y) - log pi_anchor(y) for every candidate."""
        return self.logp - self.of(anchor)

    def rewards(self) -> PerCandidate:
        """The candidates' rewards. Raises ValueError where the batch carries none."""
        return _rewards(self.reward, "response")

    def response_weights(self) -> PerCandidate:
        """The candidates' weights. Raises ValueError where the batch carries none."""
        if self.response_weight is None:
            raise ValueError("this objective reads a weight for every response, but the batch carries none")
        return self.response_weight

    def auxiliary_output(self, name: str) -> PerCandidate:
        """An output of the auxiliary head, [B, K]. Raises ValueError that lists the available names."""
        return _carried(self.auxiliary, name, "auxiliary output")

    def extrapolated_by(self, anchor: str, mix: float) -> PerCandidate:
        """Log-probs under the logits mix z_pi + (1 - mix) z_anchor, up to a number for each comparison.

        As the batch carries them; without them a response counts as a single token, of which the normaliser, the same
        for all candidates, is left out.
        """
        if anchor in self.extrapolated:
            return self.extrapolated[anchor]
        return mix * self.logp.detach() + (1 - mix) * self.of(anchor)

    def labels(self) -> PerComparison:
        """Labels of single responses, [B]: 1 desirable, 0 undesirable, between them a soft label.

        Raises ValueError where the batch carries none, or one outside [0, 1].
        """
        labels = self.rewards()[:, 0]
        if not bool(((labels >= 0) & (labels <= 1)).all()):
            raise ValueError("the reward of a labelled response is its label and must lie in [0, 1]")
        return labels

    def per_token(self) -> Scores:
        """Mean token log-probs: the same batch with every score divided by its length."""
        if self.length is None:
            raise ValueError("this objective reads mean token log-probs, but the batch carries no lengths")
        anchors = {name: anchor / self.length for name, anchor in self.anchors.items()}
        return replace(self, logp=self.logp / self.length, anchors=anchors)

    def swap(self, columns: tuple[int, ...] = (1, 0)) -> Scores:
        """Swapped comparison: candidates 0 and 1 exchanged together with their label.

        columns    column k of the result is column columns[k] of this batch; those beyond the list are
                   unchanged. Needed if further columns belong to the pair; see `reduce.swap`.
        """
        order = torch.arange(self.logp.shape[1], device=self.logp.device)
        order[: len(columns)] = torch.tensor(columns, device=order.device)
        return replace(
            self,
            logp=self.logp[:, order],
            anchors={name: anchor[:, order] for name, anchor in self.anchors.items()},
            prob=None if self.prob is None else 1 - self.prob,
            length=None if self.length is None else self.length[:, order],
            reward=None if self.reward is None else self.reward[:, order],
            response_weight=None if self.response_weight is None else self.response_weight[:, order],
            batch_statistic=None if self.batch_statistic is None else -self.batch_statistic,
            tokens=None if self.tokens is None else self.tokens.at((slice(None), order)),
            auxiliary={name: output[:, order] for name, output in self.auxiliary.items()},
            extrapolated={name: logp[:, order] for name, logp in self.extrapolated.items()},
        )

    def take(self, rows: Tensor) -> Scores:
        """The comparisons at the given row indices (or boolean mask)."""
        return replace(
            self,
            logp=self.logp[rows],
            anchors={name: anchor[rows] for name, anchor in self.anchors.items()},
            prob=None if self.prob is None else self.prob[rows],
            length=None if self.length is None else self.length[rows],
            reward=None if self.reward is None else self.reward[rows],
            response_weight=None if self.response_weight is None else self.response_weight[rows],
            batch_statistic=None if self.batch_statistic is None else self.batch_statistic[rows],
            tokens=None if self.tokens is None else self.tokens.at(rows),
            auxiliary={name: output[rows] for name, output in self.auxiliary.items()},
            extrapolated={name: logp[rows] for name, logp in self.extrapolated.items()},
        )


def _check_anchors(anchors: Mapping[str, Tensor], logp: Tensor) -> None:
    for name, anchor in anchors.items():
        if anchor.shape != logp.shape:
            raise ValueError(
                f"anchor {name!r} has shape {tuple(anchor.shape)}, the policy {tuple(logp.shape)}"
            )
        if anchor.requires_grad:
            raise ValueError(f"anchor {name!r} requires a gradient; anchors are frozen, detach it")


def _named(anchors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in anchors:
        raise KeyError(f"missing anchor {name!r} (available: {', '.join(sorted(anchors)) or 'none'})")
    return anchors[name]


def _carried(values: Mapping[str, Tensor], name: str, what: str) -> Tensor:
    if name not in values:
        raise ValueError(f"missing {what} {name!r} (available: {', '.join(sorted(values)) or 'none'})")
    return values[name]


def _rewards(reward: Tensor | None, what: str) -> Tensor:
    if reward is None:
        raise ValueError(f"this objective reads a reward for every {what}, but the batch carries none")
    return reward


class Losses:
    """Output of an objective: one loss per comparison, and named diagnostics without gradient.

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
