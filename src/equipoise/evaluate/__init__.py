"""Evaluation; nothing here trains. Called, the package is the function `equipoise.evaluate`.

text       the figures of a round: win rate, KL, accuracy on held-out pairs, lengths
exact      the figures of a language model on a game whose responses can be enumerated
oracle_check  what to know of an oracle before it is trained against

Confidence intervals of `core.intervals` are exported here: `clustered_mean`, `clustered_share` and `jackknife` are for
values that share prompts; `wilson` is for independent trials, such as one judgement per prompt.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from equipoise.core.intervals import Interval, clustered_mean, clustered_share, jackknife, wilson

__all__ = ["Interval", "clustered_mean", "clustered_share", "jackknife", "wilson"]


class _Callable(ModuleType):
    """A package that is called: once imported, it is what `equipoise.evaluate` names, in place of the function."""

    def __call__(self, *models: Any, **options: Any) -> Any:
        return import_module("equipoise.api.evaluation").evaluate(*models, **options)


sys.modules[__name__].__class__ = _Callable
