"""What an objective reads of a batch: one frozen record, whose illegal combinations cannot be written down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What an objective reads beyond log-probs and anchors. B comparisons, K candidates, T tokens.

    Supervision: the label of a pair, "candidate 0 beats candidate 1", unless one of these two says otherwise.

    rewards             a number for each candidate, `scores.rewards()` [B, K], and no label.
    labels              a label for a single response, `scores.labels()` [B] in [0, 1]: 1 desirable, 0 undesirable.
                        Further columns carry no label.

    Size of a comparison.

    group               any number of candidates from `Objective.candidates` on, not exactly that many.

    Finer or further inputs.

    tokens              single tokens, `scores.by_token()` [B, K, T]. In a batch without tokens, as of a finite game,
                        each response counts as one token.
    divergences         anchors from whose full next-token distribution the KL is read, `tokens.divergence(name)`
                        [B, K, T]. These anchors must be in memory while the policy is trained: no cache holds a
                        distribution over the vocabulary for every token.
    token_weights       names of the weights of tokens, `tokens.weight(name)` [B, K, T].
    response_weights    a detached weight >= 0 for each response, `scores.response_weights()` [B, K]. A fit computes it
                        at every step from the policy's own probabilities.
    auxiliary           names of the outputs of an auxiliary head trained jointly with the policy, [B, K]; they carry a
                        gradient.

    Statistics of the batch.

    batch_statistic     a statistic of the whole batch (a mean, a rank), [B] without gradient, computed by the
                        objective's own method; see `ReadsBatchStatistic`.
    statistic_columns   candidates that only the batch statistic reads; they carry no gradient.

    Meaning.

    surrogate           only the GRADIENT of the value means something: a score-function estimate whose rewards and
                        log-ratios are detached. It is descended step by step on fresh samples, never minimised.
    swapped             how a pair is turned round: column k of the turned comparison is column swapped[k]. By default
                        candidates 0 and 1 change places and the rest stay.

    Raises ValueError for a combination that no objective can mean.
    """

    rewards: bool = False
    labels: bool = False
    group: bool = False
    tokens: bool = False
    divergences: tuple[str, ...] = ()
    token_weights: tuple[str, ...] = ()
    response_weights: bool = False
    auxiliary: tuple[str, ...] = ()
    batch_statistic: bool = False
    statistic_columns: tuple[int, ...] = ()
    surrogate: bool = False
    swapped: tuple[int, ...] = (1, 0)

    def __post_init__(self) -> None:
        for field in ("divergences", "token_weights", "auxiliary"):
            _check_names(field, getattr(self, field))
        if self.rewards and self.labels:
            raise ValueError("an objective reads rewards or labels of single responses, not both")
        if self.labels and self.group:
            raise ValueError("labels are of single responses; a group of responses has rewards")
        if not self.tokens and (self.divergences or self.token_weights):
            raise ValueError("divergences and token_weights are numbers of single tokens: set tokens=True")
        if self.batch_statistic and self.tokens:
            raise ValueError("a batch statistic is measured on whole responses; tokens=True excludes it")
        if self.statistic_columns and not self.batch_statistic:
            raise ValueError("statistic_columns are read by a batch statistic: set batch_statistic=True")
        if any(column < 1 for column in self.statistic_columns):
            raise ValueError(
                f"statistic_columns must be 1 or more: column 0 is descended, got {self.statistic_columns}"
            )
        if self.swapped[:2] != (1, 0) or any(
            column >= len(self.swapped) or self.swapped[column] != k for k, column in enumerate(self.swapped)
        ):
            raise ValueError(
                f"swapped must exchange 0 and 1, and be undone by a second swap; got {self.swapped}"
            )
        if not self.pair_label and self.swapped != (1, 0):
            raise ValueError(
                "only a labelled pair is turned round: rewards and labels exclude swapped columns"
            )

    @property
    def pair_label(self) -> bool:
        """Whether the supervision is the label of a pair, "candidate 0 beats candidate 1"."""
        return not (self.rewards or self.labels)

    @property
    def live(self) -> tuple[str, ...]:
        """Names of everything that only a model in memory, trained or frozen, can give."""
        return (*self.divergences, *self.auxiliary)


def _check_names(field: str, names: tuple[str, ...]) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{field} must be a tuple of names, got {names!r}")
    if len(set(names)) != len(names):
        raise ValueError(f"{field} holds a name twice: {names!r}")


PAIR = Reads()
"""The label of a pair and the scores of its responses: what most objectives read."""
