"""Equipoise: align language models with preferences by games, with evidence.

import equipoise as eq
run = eq.align("spac", model="path/to/model", data="pairs.jsonl", out="runs/spac")
print(run.summary["accuracy"], run.report)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equipoise.data.reading.read import read
    from equipoise.games.load import load_game
    from equipoise.games.preference import PreferenceGame
    from equipoise.run.session import Run, align
    from equipoise.worlds.table.play_game import play_game

__version__ = "0.1.0"
__all__ = ["PreferenceGame", "Run", "align", "load_game", "play_game", "read"]

_HOME = {
    "align": "equipoise.run.session",
    "Run": "equipoise.run.session",
    "read": "equipoise.data.reading.read",
    "load_game": "equipoise.games.load",
    "PreferenceGame": "equipoise.games.preference",
    "play_game": "equipoise.worlds.table.play_game",
}


def __getattr__(name: str) -> Any:
    """Names are imported when first used: `import equipoise.games` must not pull in transformers."""
    if name not in _HOME:
        raise AttributeError(f"module 'equipoise' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
