"""The pure middle: tensors in, tensors out. No I/O, no model, no configuration."""

from equipoise.core.scores import Losses, Scores

__all__ = ["Losses", "Scores"]
