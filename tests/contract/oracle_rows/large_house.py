"""The panels of the large tea house: exact, with a cycle, of several groups, and told by votes."""

from __future__ import annotations

from typing import Any

from contract.oracle_rows import Listed
from equipoise.playground.large import LargeTeaHouse

GAME = LargeTeaHouse()
ABOUT: dict[str, Any] = {
    "prompts": tuple(GAME.prompts[:5]),
    "first": tuple(GAME.responses[:5]),
    "second": (*GAME.responses[105:109], GAME.responses[4]),
    "chat": True,
    "unknown": ("Coffee!", GAME.responses[0], GAME.responses[1]),
    "called": "tea house",
    "exempt": {"fingerprint": "made in memory: no file or command names it"},
}
ORACLES = {
    "large house, skewed": Listed(build=lambda folder: LargeTeaHouse("skewed").oracle(), **ABOUT),
    "large house, users": Listed(build=lambda folder: LargeTeaHouse("users").oracle(), **ABOUT),
    "large house, length": Listed(
        build=lambda folder: LargeTeaHouse("length").oracle(), scores=True, **ABOUT
    ),
    "large house, noisy": Listed(build=lambda folder: LargeTeaHouse("noisy").oracle(), **ABOUT),
    "large house, votes": Listed(build=lambda folder: LargeTeaHouse("skewed", 5).oracle(), **ABOUT),
}
