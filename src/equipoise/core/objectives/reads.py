"""Reads: the inputs of an objective as one frozen record, which refuses illegal combinations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What an objective reads beyond log-probs and anchors. B comparisons, K candidates, T tokens.

    Supervision: the label of a pair, "candidate 0 beats candidate 1", unless one of these two says otherwise.

    rewards             a reward per candidate, `scores.rewards()` [B, K], and no label.
    labels              a label of a single response, `scores.labels()` [B] in [0, 1]: 1 desirable, 0 undesirable.
                        Further columns carry no label.

    Size of a comparison.

    group               `Objective.candidates` or more candidates, instead of exactly that number.

    Finer or further inputs.

    tokens              token-level scores, `scores.by_token()` [B, K, T]. In a batch without tokens, as of a finite
                        game, each response counts as one token.
    divergences         anchors with a next-token KL that is read, `tokens.divergence(name)` [B, K, T]. These anchors
                        must be in memory during training: full next-token distributions are not cached.
    extrapolated        anchors away from which the policy's next-token logits are extrapolated, for a batch statistic:
                        `scores.extrapolated_by(name, mix)` [B, K], without gradient, at the objective's own `mix`.
                        These anchors must be in memory during training.
    token_weights       names of token weights, `tokens.weight(name)` [B, K, T].
    response_weights    a detached weight >= 0 for each response, `scores.response_weights()` [B, K]. A fit computes it
                        at every step from the policy's own probabilities.
    auxiliary           names of the outputs of an auxiliary head trained jointly with the policy, [B, K]; they carry a
                        gradient.

    Statistics of the batch.

    batch_statistic     a statistic of the whole batch (a mean, a rank), [B] without gradient, computed by the
                        objective's own method; see `ReadsBatchStatistic`.
    running             it runs over the optimizer steps of a fit; see `ReadsRunningStatistic`.
    statistic_columns   candidates that only the batch statistic reads; they carry no gradient.

    Meaning.

    surrogate           only the GRADIENT of the value is meaningful: a score-function estimate with detached rewards
                        and log-ratios. It needs gradient steps on fresh samples and is never minimised.
    swapped             how a pair is swapped: column k of the swapped comparison is column swapped[k]. By default
                        candidates 0 and 1 are exchanged and the rest is unchanged.

    Raises ValueError for an illegal combination.
    """

    rewards: bool = False
    labels: bool = False
    group: bool = False
    tokens: bool = False
    divergences: tuple[str, ...] = ()
    extrapolated: tuple[str, ...] = ()
    token_weights: tuple[str, ...] = ()
    response_weights: bool = False
    auxiliary: tuple[str, ...] = ()
    batch_statistic: bool = False
    running: bool = False
    statistic_columns: tuple[int, ...] = ()
    surrogate: bool = False
    swapped: tuple[int, ...] = (1, 0)

    def __post_init__(self) -> None:
        for field in ("divergences", "extrapolated", "token_weights", "auxiliary"):
            _check_names(field, getattr(self, field))
        if self.rewards and self.labels:
            raise ValueError("an objective reads rewards or labels of single responses, not both")
        if self.labels and self.group:
            raise ValueError("labels are of single responses; a group of responses has rewards")
        if not self.tokens and (self.divergences or self.token_weights):
            raise ValueError("divergences and token_weights are per token: set tokens=True")
        if self.batch_statistic and self.tokens:
            raise ValueError(
                "a batch statistic is computed on whole responses: it cannot be combined with tokens=True"
            )
        if self.running and not self.batch_statistic:
            raise ValueError("a running statistic is one of a batch: set batch_statistic=True")
        if self.statistic_columns and not self.batch_statistic:
            raise ValueError("statistic_columns are read by a batch statistic: set batch_statistic=True")
        if self.extrapolated and not self.batch_statistic:
            raise ValueError("extrapolated logits are read by a batch statistic: set batch_statistic=True")
        if any(column < 1 for column in self.statistic_columns):
            raise ValueError(
                f"statistic_columns must be 1 or more: column 0 is descended, got {self.statistic_columns}"
            )
        if self.swapped[:2] != (1, 0) or any(
            column >= len(self.swapped) or self.swapped[column] != k for k, column in enumerate(self.swapped)
        ):
            raise ValueError(f"swapped must exchange 0 and 1 and be its own inverse, got {self.swapped}")
        if not self.pair_label and self.swapped != (1, 0):
            raise ValueError("only labelled pairs are swapped: rewards and labels exclude swapped columns")

    @property
    def pair_label(self) -> bool:
        """Whether the supervision is the label of a pair, "candidate 0 beats candidate 1"."""
        return not (self.rewards or self.labels)

    @property
    def live(self) -> tuple[str, ...]:
        """Names of the inputs that need a model in memory, trained or frozen."""
        return (*self.divergences, *self.extrapolated, *self.auxiliary)


def _check_names(field: str, names: tuple[str, ...]) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{field} must be a tuple of names, got {names!r}")
    if len(set(names)) != len(names):
        raise ValueError(f"{field} has a duplicate name: {names!r}")


PAIR = Reads()
"""A pair label and the scores of both responses: the inputs of most objectives."""
