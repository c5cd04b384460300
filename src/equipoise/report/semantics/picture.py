"""The landscape of losses: a graph of which loss is stronger than which, with their truth tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise, permutations
from pathlib import Path as File
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path

from equipoise.policy.files import whole
from equipoise.report.labels import label
from equipoise.report.semantics.explanation import Report
from equipoise.report.style import BLUE, FAINT, INK, ORANGE, PURPLE, render, styled

COLOUR: Mapping[str, str] = {"win": BLUE, "lose": ORANGE, "both": PURPLE, "ignored": "#E6E6E6"}
LETTER: Mapping[str, str] = {"win": "W", "lose": "L", "both": "B", "ignored": ""}
WIDE, HIGH, SIDE = 2.0, 1.65, 0.62  # inches between nodes, between layers, and of a truth table
UNDER = 0.52  # inches that the names under a table take
SWEEPS, MOST_ORDERED = 4, 6  # a layer of more nodes keeps its order

Place = tuple[float, float]
Edge = tuple[int, int]


def write_landscape(found: Report, path: File) -> None:
    """Draw to a PNG, written whole or not at all."""
    with styled():
        image = render(landscape_figure(found))
    with whole(File(path)) as draft:
        draft.write_bytes(image)


def landscape_figure(found: Report) -> Figure:
    """Layers from strong to weak, an arrow from each loss to those that it is stronger than."""
    at, bends = places(len(found["nodes"]), found["edges"])
    everywhere = [*at, *(place for way in bends.values() for place in way)]
    right, low = max(x for x, _ in everywhere), min(y for _, y in at)
    figure = Figure(figsize=(right + 1.9, -low + 2.35))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.95, right + 0.95)
    axes.set_ylim(low - 1.8, 0.55)
    axes.set_axis_off()
    for (a, b), way in bends.items():
        draw_arrow(axes, at[a], way, at[b])
    for node, place in zip(found["nodes"], at, strict=True):
        draw_node(axes, node, place)
    draw_key(axes, low - SIDE / 2 - UNDER - 0.3)
    return figure


def places(count: int, edges: Sequence[Edge]) -> tuple[list[Place], dict[Edge, list[Place]]]:
    """Where each node stands and each edge bends: connected ones in a block of layers, the others in a column."""
    blocks = components(count, edges)
    at: dict[int, Place] = {}
    bends: dict[Edge, list[Place]] = {}
    left = 0.0
    for block in (b for b in blocks if len(b) > 1):
        rows, ways = layers(block, [edge for edge in edges if edge[0] in block])
        width = max(map(len, rows))
        for depth, row in enumerate(rows):
            for i, node in enumerate(row):
                at[node] = (left + WIDE * (i + (width - len(row)) / 2), -HIGH * depth)
        bends |= {edge: [at[node] for node in way] for edge, way in ways.items()}
        left += WIDE * width
    for i, block in enumerate(b for b in blocks if len(b) == 1):
        at[block[0]] = (left, -HIGH * i)
    return [at[node] for node in range(count)], bends


def components(count: int, edges: Sequence[Edge]) -> list[list[int]]:
    """The nodes that are joined by edges, largest block first."""
    of = list(range(count))
    for a, b in edges:
        old, new = of[b], of[a]
        of = [new if block == old else block for block in of]
    blocks = [[node for node in range(count) if of[node] == block] for block in dict.fromkeys(of)]
    return sorted(blocks, key=len, reverse=True)


def layers(block: Sequence[int], edges: Sequence[Edge]) -> tuple[list[list[int]], dict[Edge, list[int]]]:
    """Nodes by the longest way down from them, strongest first, in the order that crosses least.

    An edge over several layers has a place in each between, a node below 0, so that it runs past what stands there.
    """
    height = dict.fromkeys(block, 0)
    for _ in block:
        for a, b in edges:
            height[a] = max(height[a], height[b] + 1)
    ways: dict[Edge, list[int]] = {}
    for a, b in edges:
        ways[a, b] = [-1 - len(height) - i for i in range(height[a] - height[b] - 1)]
        height |= {node: height[a] - 1 - i for i, node in enumerate(ways[a, b])}
    short = [step for (a, b), way in ways.items() for step in pairwise([a, *way, b])]
    rows = [[n for n in height if height[n] == level] for level in range(max(height.values()), -1, -1)]
    for _ in range(SWEEPS):
        for depth, row in enumerate(rows):
            if len(row) <= MOST_ORDERED:
                orders = ([*rows[:depth], list(order), *rows[depth + 1 :]] for order in permutations(row))
                rows = min(orders, key=lambda tried: untidy(tried, short))
    return rows, ways


def untidy(rows: Sequence[Sequence[int]], edges: Sequence[Edge]) -> tuple[int, float]:
    """How many edges cross, and how far they go sideways."""
    at = {node: (y, i - (len(row) - 1) / 2) for y, row in enumerate(rows) for i, node in enumerate(row)}
    crossing = sum(
        at[a][0] == at[c][0] and (at[a][1] - at[c][1]) * (at[b][1] - at[d][1]) < 0
        for (a, b), (c, d) in combinations(edges, 2)
    )
    return crossing, sum((at[a][1] - at[b][1]) ** 2 for a, b in edges)


def draw_arrow(axes: Axes, start: Place, way: Sequence[Place], end: Place) -> None:
    half = SIDE / 2
    points = [(start[0], start[1] - half - UNDER)]
    for x, y in way:
        points += [(x, y + half), (x, y - half - UNDER)]
    points.append((end[0], end[1] + half + 0.05))
    arrow = FancyArrowPatch(path=Path(points), arrowstyle="-|>", mutation_scale=9, color=FAINT, linewidth=1.0)
    axes.add_patch(arrow)


def draw_node(axes: Axes, node: Report, place: Place) -> None:
    x, y = place
    draw_marks(axes, node["rows"], (x, y))
    below = y - SIDE / 2 - 0.04
    axes.text(
        x, below, label(" = ".join(node["names"]), 30), ha="center", va="top", fontsize=9.5, weight="bold"
    )
    names = wrap(", ".join(node["objectives"]), 30, max_lines=2, placeholder=" …")
    axes.text(x, below - 0.17, "\n".join(names), ha="center", va="top", fontsize=7, color=FAINT)


def draw_marks(axes: Axes, rows: Sequence[Report], centre: Place) -> None:
    """The truth table as cells: the first half of the atoms downwards, the others across, true first."""
    atoms = len(rows[0]["values"])
    down = 1 << (atoms + 1) // 2
    across = len(rows) // down
    size = SIDE / max(down, across, 2)
    left, top = centre[0] - size * across / 2, centre[1] + size * down / 2
    for i, row in enumerate(rows):
        corner = (left + size * (i % across), top - size * (i // across + 1))
        axes.add_patch(
            Rectangle(corner, size, size, facecolor=COLOUR[row["mark"]], edgecolor="white", linewidth=0.8)
        )
        axes.text(
            corner[0] + size / 2,
            corner[1] + size / 2,
            LETTER[row["mark"]],
            ha="center",
            va="center_baseline",
            fontsize=9 if size > 0.2 else 6,
            color="white",
        )


def draw_key(axes: Axes, y: float) -> None:
    told = {"win": "wins", "lose": "loses", "both": "counts both ways", "ignored": "ignored"}
    x = -0.55
    for mark, words in told.items():
        axes.add_patch(Rectangle((x, y - 0.09), 0.18, 0.18, facecolor=COLOUR[mark], edgecolor="white"))
        axes.text(x + 0.09, y, LETTER[mark], ha="center", va="center_baseline", fontsize=7, color="white")
        axes.text(x + 0.25, y, words, ha="left", va="center", fontsize=8, color=INK)
        x += 0.5 + 0.075 * len(words)
    text = (
        "Two atoms: the first holds in the upper row, the second in the left column. "
        "Four: M(w), M(l) downwards, Ref(w), Ref(l) across, from both true to none.\n"
        "An arrow leads from a loss to one that is never larger. In grey: objectives that say the same."
    )
    axes.text(-0.55, y - 0.18, text, ha="left", va="top", fontsize=7, color=FAINT)
