"""Equipoise: align language models with preferences by games, with evidence.

import equipoise as eq
run = eq.align("spac", model="path/to/model", data="pairs.jsonl", out="runs/spac")
print(run.summary["accuracy"], run.report)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equipoise.api.comparison import Comparison, compare
    from equipoise.api.data import read
    from equipoise.api.diagnosis import Diagnosis, diagnose
    from equipoise.api.evaluation import Evaluation, evaluate
    from equipoise.api.sampling import Samples, sample
    from equipoise.games.load import load_game
    from equipoise.games.preference import PreferenceGame
    from equipoise.run.finished import Run, load_run
    from equipoise.run.session import align
    from equipoise.worlds.table.play_game import play_game
    from equipoise.worlds.text.progress import Callback

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "Comparison",
    "Diagnosis",
    "Evaluation",
    "PreferenceGame",
    "Run",
    "Samples",
    "align",
    "compare",
    "diagnose",
    "evaluate",
    "load_game",
    "load_run",
    "play_game",
    "read",
    "sample",
]

_HOME = {
    "align": "equipoise.run.session",
    "Run": "equipoise.run.finished",
    "load_run": "equipoise.run.finished",
    "Comparison": "equipoise.api.comparison",
    "Callback": "equipoise.worlds.text.progress",
    "compare": "equipoise.api.comparison",
    "Diagnosis": "equipoise.api.diagnosis",
    "diagnose": "equipoise.api.diagnosis",
    "Evaluation": "equipoise.api.evaluation",
    "evaluate": "equipoise.api.evaluation",  # also a package, which is callable and calls the same function
    "Samples": "equipoise.api.sampling",
    "sample": "equipoise.api.sampling",
    "read": "equipoise.api.data",
    "load_game": "equipoise.games.load",
    "PreferenceGame": "equipoise.games.preference",
    "play_game": "equipoise.worlds.table.play_game",
}


def __getattr__(name: str) -> Any:
    """Names are imported when first used: `import equipoise.games` must not pull in transformers."""
    if name not in _HOME:
        raise AttributeError(f"module 'equipoise' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
