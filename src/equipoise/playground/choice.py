"""Which of the built-in language games a panel's name means, with the model that plays it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from jaxtyping import Float
from torch import Tensor

from equipoise.playground.language import LanguageGame, Variant
from equipoise.playground.large import LargeTeaHouse, checkpoint_path, enumerated_policy
from equipoise.playground.large.panels import PANELS
from equipoise.playground.reference import model_path, reference_policy

Game = LanguageGame | LargeTeaHouse
SMALL: tuple[Variant, ...] = get_args(Variant)


def is_large(panel: str) -> bool:
    """Whether the panel is one of the large tea house."""
    return panel in PANELS


def game_of(panel: str, votes: int = 0) -> Game:
    """The game that a panel judges. Raises ValueError for a panel of neither house, and votes in the first one."""
    if is_large(panel):
        given: dict[str, Any] = {"panel": panel, "votes": votes}
        return LargeTeaHouse(**given)
    if panel not in SMALL:
        raise ValueError(f"no panel {panel!r}; there are {', '.join((*SMALL, *PANELS))}")
    if votes:
        raise ValueError("votes are counted in the large tea house only; take one of its panels")
    small: dict[str, Any] = {"variant": panel}
    return LanguageGame(**small)


def start_of(panel: str, checkpoint: str) -> Path:
    """The folder of the model that plays."""
    return checkpoint_path(checkpoint) if is_large(panel) else model_path()


def reference_of(panel: str, checkpoint: str) -> Float[Tensor, "X A"]:
    """That model's enumerated policy, given that the answer is in the grammar; float64, rows sum to 1."""
    return enumerated_policy(checkpoint) if is_large(panel) else reference_policy()
