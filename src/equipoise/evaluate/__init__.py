"""Evaluation; nothing here trains.

text       the figures of a round: win rate, KL, accuracy on held-out pairs, lengths
exact      the figures of a language model on a game whose responses can be enumerated
intervals  confidence intervals of means and shares, exported here

`clustered_mean` and `clustered_share` are for values that share prompts; `wilson` is for independent trials, such as
one judgement per prompt.
"""

from equipoise.evaluate.intervals import Interval, clustered_mean, clustered_share, wilson

__all__ = ["Interval", "clustered_mean", "clustered_share", "wilson"]
