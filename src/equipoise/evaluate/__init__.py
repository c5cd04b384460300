"""Evaluation; nothing here trains.

text       the figures of a round: win rate, KL, accuracy on held-out pairs, lengths
exact      the figures of a language model on a game whose responses can be enumerated
oracle_check  what to know of an oracle before it is trained against

Confidence intervals of `core.intervals` are exported here: `clustered_mean`, `clustered_share` and `jackknife` are for
values that share prompts; `wilson` is for independent trials, such as one judgement per prompt.
"""

from equipoise.core.intervals import Interval, clustered_mean, clustered_share, jackknife, wilson

__all__ = ["Interval", "clustered_mean", "clustered_share", "jackknife", "wilson"]
