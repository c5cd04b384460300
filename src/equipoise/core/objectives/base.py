"""What every objective is: a frozen, keyword-only callable from Scores to Losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch

from equipoise.core.dims import PerComparison
from equipoise.core.scores import Losses, Scores


@runtime_checkable
class Objective(Protocol):
    """A pure function of scores.

    anchors      names of the frozen policies whose scores it reads; which policies they are is the
                 method's choice ("reference" = the initial policy, "previous" = the last round's).
    candidates   how many responses per prompt it reads: 2 for a pair, 3 for SPAC's pair and own response. An
                 objective with the class attribute `group = True` reads that many or more.

    Calling it gives the loss of each comparison under the label "candidate 0 beats candidate 1"; soft
    labels are handled once for all objectives by `reduce.expected`. Objectives that read `scores.reward` take
    no label and say so with the class attribute `rewarded = True`. Where the class attribute `surrogate = True`
    stands, only the GRADIENT of the value means something (a score-function estimate: rewards and log-ratios
    inside are detached); such an objective is descended step by step from fresh samples, never minimised. One
    that reads single tokens, `scores.by_token()`, says `tokens = True`; where a batch knows no tokens, as in a
    finite game, each response counts as one. One that reads a weight for every response, `scores.weights()`, says
    `weighted = True`; a fit makes it anew in every step, of how likely the policy is to write each. Of tokens more may
    be read, and is named: `divergences`, anchors of whose whole next-token law the KL is read (they must be alive while
    the policy is trained: no cache holds a law over the vocabulary for every token), and `token_weights`, by which
    tokens are weighed. `beside` names what is read of a small network that is trained with the policy.

    `labelled = True`: a comparison is one response with a thumb up or down, `scores.labels()`. Further columns carry no
    label. `contextual = True`: it has the method of `Contextual`. `frozen` names the columns that only the context
    reads: the last ones; they need no gradient.
    """

    @property
    def anchors(self) -> tuple[str, ...]: ...

    @property
    def candidates(self) -> int: ...

    def __call__(self, scores: Scores) -> Losses: ...


class Contextual(Protocol):
    """An objective that reads a statistic of the whole batch: a mean, a rank.

    The caller of a step computes it once, over all micro-batches and ranks, and hands each comparison its number as
    `scores.context`. Where nobody did, the comparisons at hand are the batch; see `context_of`.
    """

    def context(self, scores: Scores, weight: PerComparison) -> PerComparison: ...


def is_group(objective: Objective) -> bool:
    """Whether the objective reads any number of candidates from `candidates` on."""
    return bool(getattr(objective, "group", False))


def is_surrogate(objective: Objective) -> bool:
    """Whether only the gradient of the objective means something, not its value."""
    return bool(getattr(objective, "surrogate", False))


def reads_reward(objective: Objective) -> bool:
    """Whether the objective reads a reward for every response instead of a label."""
    return bool(getattr(objective, "rewarded", False))


def reads_weight(objective: Objective) -> bool:
    """Whether the objective reads a detached weight for every response."""
    return bool(getattr(objective, "weighted", False))


def reads_tokens(objective: Objective | None) -> bool:
    """Whether the objective reads scores token by token."""
    return bool(getattr(objective, "tokens", False))


def divergences_of(objective: Objective | None) -> tuple[str, ...]:
    """The anchors from whose whole next-token law the objective reads the KL."""
    return tuple(getattr(objective, "divergences", ()))


def token_weights_of(objective: Objective | None) -> tuple[str, ...]:
    """Names of the weights of tokens that the objective reads."""
    return tuple(getattr(objective, "token_weights", ()))


def beside_of(objective: Objective | None) -> tuple[str, ...]:
    """Names of what the objective reads of a network that is trained beside the policy."""
    return tuple(getattr(objective, "beside", ()))


@dataclass(frozen=True, kw_only=True)
class OnAPair:
    """An objective that adds a term to any loss of a labelled pair, and reads of the pair whatever that loss reads.

    Raises ValueError for a base that is no loss proper of a labelled pair.
    """

    base: Objective

    def __post_init__(self) -> None:
        b = self.base
        if b.candidates != 2 or is_group(b) or is_surrogate(b) or reads_reward(b) or reads_context(b):
            raise ValueError(
                f"{type(self).__name__} adds to a loss of a labelled pair; {type(b).__name__} is none"
            )

    @property
    def anchors(self) -> tuple[str, ...]:
        return self.base.anchors

    @property
    def tokens(self) -> bool:
        return reads_tokens(self.base)

    @property
    def divergences(self) -> tuple[str, ...]:
        return divergences_of(self.base)

    @property
    def token_weights(self) -> tuple[str, ...]:
        return token_weights_of(self.base)


def reads_labels(objective: Objective) -> bool:
    """Whether the rewards that the objective reads are labels of single responses."""
    return bool(getattr(objective, "labelled", False))


def reads_context(objective: Objective) -> bool:
    """Whether the objective reads a statistic of the whole batch."""
    return bool(getattr(objective, "contextual", False))


def frozen_columns(objective: Objective) -> tuple[int, ...]:
    """The candidates that only the objective's context reads."""
    return tuple(getattr(objective, "frozen", ()))


def context_of(objective: Objective, scores: Scores, weight: PerComparison | None = None) -> PerComparison:
    """The statistic that a contextual objective reads, [B] without gradient: as given, else of this batch.

    weight    [B] of the comparisons, one each unless given; a comparison of weight 0 does not count.
    """
    if scores.context is not None:
        return scores.context
    weight = torch.ones_like(scores.logp[:, 0]) if weight is None else weight.to(scores.logp)
    return cast(Contextual, objective).context(scores, weight.detach()).detach()


def positive(**values: float) -> None:
    """Raise ValueError unless every named value is a positive finite number."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number, got {value!r}")


def not_negative(**values: float) -> None:
    """Raise ValueError unless every named value is a finite number >= 0."""
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a number >= 0, got {value!r}")
