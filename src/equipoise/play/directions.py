"""Directions among several scores (directional preference alignment), and the words that tell a policy of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.play.state import Floats

ATTRIBUTE = "direction {}"  # the attribute of a response that holds one coordinate of its direction
TEMPLATE = "Answer so that this weighted rating is as high as possible: {weights}.\n\n{prompt}"


def directions(uniforms: Floats, low: float, high: float) -> Floats:
    """Unit vectors [N, G] of uniform draws [N, G]: at an angle of low to high degrees from the first score.

    v = (cos t, sin t e),   t uniform on [low, high],    e = 1 for G = 2, else uniform on a sphere of G - 1 scores
    """
    from scipy.special import ndtri  # half a second of imports, which exact games do without

    angle = np.deg2rad(low + (high - low) * uniforms[:, :1])
    if uniforms.shape[1] == 2:
        side = np.ones_like(angle)
    else:
        normal = ndtri(np.clip(uniforms[:, 1:], 1e-12, 1 - 1e-12))
        side = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return np.concatenate([np.cos(angle), np.sin(angle) * side], axis=1)


@dataclass(frozen=True)
class Telling:
    """How a prompt tells a direction: a template, whose weights are round(100 v_g).

    template   holds {prompt}, and {weights} (80*helpfulness + 60*brevity) or {values} (80 60).
    words      names for equal parts of -100 to 100, from the lowest, instead of numbers; none: numbers. For a model
               that reads no numbers.

    Raises ValueError for a template that lacks either.
    """

    template: str = TEMPLATE
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "{prompt}" not in self.template or not {"{weights}", "{values}"} & _fields(self.template):
            raise ValueError(
                f"a template of directions holds {{prompt}}, and {{weights}} or {{values}}, got {self.template!r}"
            )

    def template_of(self, direction: Mapping[str, float]) -> str:
        """The template of one direction (score -> coordinate), which holds {prompt} only."""
        values = {name: self._said(round(100 * v)) for name, v in direction.items()}
        weights = " + ".join(f"{value}*{name}" for name, value in values.items())
        return self.template.replace("{weights}", weights).replace("{values}", " ".join(values.values()))

    def _said(self, percent: int) -> str:
        if not self.words:
            return str(percent)
        place = int((percent + 100) / 200 * len(self.words))
        return self.words[min(max(place, 0), len(self.words) - 1)]


def _fields(template: str) -> set[str]:
    return {name for name in ("{weights}", "{values}") if name in template}


def told(direction: Floats, names: Sequence[str], width: int) -> dict[str, Floats]:
    """Attributes of `width` responses to each row: its direction [N, G], coordinate by coordinate."""
    return {
        ATTRIBUTE.format(name): np.repeat(direction[:, [place]], width, axis=1)
        for place, name in enumerate(names)
    }


def direction_of(attributes: Mapping[str, np.ndarray], names: Sequence[str], count: int) -> Floats:
    """[N, G] the directions that `told` noted; of `count` rows that tell none, equal weights of all scores."""
    keys = [ATTRIBUTE.format(name) for name in names]
    if any(key not in attributes for key in keys):
        return np.full((count, len(names)), len(names) ** -0.5)
    return np.stack([attributes[key][:, 0] for key in keys], axis=1).astype(np.float64)
