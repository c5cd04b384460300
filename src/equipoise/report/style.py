"""How every figure looks: one restrained, colour-blind safe style without global state."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe-Ito: distinguishable with every common colour blindness, and in grey by lightness.
BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#56B4E9", "#E69F00"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
INK, FAINT = "#222222", "#8A8A8A"

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    # Names of methods and models are untrusted: a dollar sign in one must not start mathematics.
    "text.parse_math": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
DPI = 200


def styled() -> Any:
    """Context in which figures are built and rendered; matplotlib's own settings are restored on leaving."""
    return matplotlib.rc_context(STYLE)


def panels(count: int = 1, height: float = 2.8) -> tuple[Figure, list[Axes]]:
    """A figure 5.4 inches wide with `count` panels side by side. No pyplot, so nothing stays open."""
    figure = Figure(figsize=(5.4, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def render(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes on one version of matplotlib."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name may hold letters the font lacks; a box in their place is all that can be done.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def direct_labels(
    axes: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float = 0.075, offset: float = 6
) -> None:
    """Name lines at their right ends, (x, y, text, colour), moved apart by `gap` of the axis height.

    Call once limits and scale are final. Text stands outside the panel, so the layout must make room.
    """
    to_axes = (axes.transData + axes.transAxes.inverted()).transform
    placed = sorted(
        ((float(to_axes((x, y))[1]), text, colour) for x, y, text, colour in ends), key=lambda p: p[0]
    )
    heights: list[float] = []
    for height, _, _ in placed:
        heights.append(max(height, heights[-1] + gap) if heights else height)
    overflow = max(0.0, heights[-1] - 1.0) if heights else 0.0
    for (_, text, colour), height in zip(placed, heights, strict=True):
        axes.annotate(
            text,
            xy=(1.0, height - overflow),
            xycoords="axes fraction",
            xytext=(offset, 0),
            textcoords="offset points",
            va="center",
            ha="left",
            color=colour,
            fontsize=9,
            annotation_clip=False,
        )
