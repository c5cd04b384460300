"""Evaluation; nothing here trains.

text       the figures of a round: win rate, KL, accuracy on held-out pairs, lengths
exact      the figures of a language model on a game whose responses can be enumerated
intervals  confidence intervals of means, shares and other statistics, exported here
oracle_check  what to know of an oracle before it is trained against

`clustered_mean`, `clustered_share` and `jackknife` are for values that share prompts; `wilson` is for independent
trials, such as one judgement per prompt.
"""

from equipoise.evaluate.intervals import Interval, clustered_mean, clustered_share, jackknife, wilson

__all__ = ["Interval", "clustered_mean", "clustered_share", "jackknife", "wilson"]
