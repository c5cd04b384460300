"""Oracle check: what to know of an oracle before it is trained against; nothing here trains.

check         all of it, as plain data: `check(oracles, comparisons)`
comparisons   pairs, lists and round robins as labelled comparisons; asked: both orders, as questions of their own
accuracy  order  length  calibration  cycles  transitivity  agreement  dissection: one measurement each
properties    what a text shows (lists, hedging, repetition, ...); laplace_logistic: the model of their weights
"""

from __future__ import annotations

from equipoise.evaluate.oracle_check.check import Wanted, check, measured
from equipoise.evaluate.oracle_check.comparisons import Comparison, Comparisons, comparisons_of

__all__ = ["Comparison", "Comparisons", "Wanted", "check", "comparisons_of", "measured"]
