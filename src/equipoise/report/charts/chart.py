"""Charts as data: lines with intervals, boxes, and the table of values behind them; drawn on a page or for print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from equipoise.report.numbers import percent, plain
from equipoise.report.sheet import Sheet

COLOURS = 6  # of the palette, on a page and in print
MOST_ROWS = 25  # of the table of values; a longer line is shown at evenly spaced places
# A line that spans more than this many times its smallest value is unreadable on a linear axis.
LOG_SPAN = 20.0
NOTHING = "–"

Points = Sequence[float]
Ends = Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart.

    low, high  the ends of an interval at each point; None where there is none
    colour     its place in the palette
    faint      a raw trace under its smoothed line: it is drawn thin, and its values are not in the table
    parts      indices at which the line is broken, where a new round begins
    marked     whether its points are marked
    star       whether they are marked by stars
    """

    name: str
    x: Points
    y: Points
    low: Ends | None = None
    high: Ends | None = None
    colour: int = 0
    faint: bool = False
    parts: Sequence[int] = ()
    marked: bool = True
    star: bool = False


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Bars of a chart, as rectangles; `said` is the value of each in words."""

    name: str
    left: Points
    right: Points
    bottom: Points
    top: Points
    said: Sequence[str]
    colour: int = 0


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart: its marks, its axes and its words. All texts are plain, not yet escaped.

    alt         what it shows in a sentence, for readers who do not see it
    level       a value that everything is held against, and what it is called
    boundaries  places on the x axis where something begins, such as rounds
    share       whether y is a share, shown in per cent
    whole       whether x is a count
    log         whether the y axis is logarithmic
    places      names of the places 0, 1, ... on the x axis, for bars
    star        (x, y, text) of one point that stands out
    """

    name: str
    title: str
    caption: str
    alt: str
    x_label: str
    y_label: str
    lines: Sequence[Line] = ()
    boxes: Sequence[Boxes] = ()
    level: tuple[float, str] | None = None
    boundaries: Points = ()
    share: bool = False
    whole: bool = True
    log: bool = False
    from_zero: bool = False
    places: Sequence[str] = field(default_factory=tuple)
    star: tuple[float, float, str] | None = None

    def show(self, value: float | None) -> str:
        """A y value for a reader."""
        if value is None or not math.isfinite(value):
            return NOTHING
        return percent(value) if self.share else plain(value)

    def at(self, x: float) -> str:
        """An x value for a reader."""
        if self.places and float(x).is_integer() and 0 <= x < len(self.places):
            return self.places[int(x)]
        return f"{x:,.0f}" if self.whole else plain(x)

    def said(self, line: Line, index: int) -> str:
        """The value of a line at a point, with its interval."""
        value = self.show(line.y[index])
        low = line.low[index] if line.low else None
        high = line.high[index] if line.high else None
        if low is None or high is None:
            return value
        return f"{value} ({self.show(low)} to {self.show(high)})"

    @property
    def legend(self) -> list[tuple[str, int]]:
        """(name, place in the palette) of the marks, where there are several."""
        marks = [(line.name, line.colour % COLOURS) for line in self.lines if not line.faint]
        marks += [(box.name, box.colour % COLOURS) for box in self.boxes]
        return marks if len(marks) > 1 else []

    @property
    def table(self) -> Sheet:
        """The values behind the chart: x, then each line; or each bar."""
        if self.boxes:
            return self._bars()
        lines = [line for line in self.lines if not line.faint]
        values = [
            {x: self.said(line, i) for i, x in enumerate(line.x) if math.isfinite(line.y[i])}
            for line in lines
        ]
        places = _spaced(sorted({x for one in values for x in one}))
        rows = [[self.at(x), *(one.get(x, NOTHING) for one in values)] for x in places]
        return Sheet(self.title, [self.x_label, *(line.name for line in lines)], rows)

    def _bars(self) -> Sheet:
        middle = [
            {(a + b) / 2: said for a, b, said in zip(box.left, box.right, box.said, strict=True)}
            for box in self.boxes
        ]
        edges = {(a + b) / 2: (a, b) for box in self.boxes for a, b in zip(box.left, box.right, strict=True)}

        def place(x: float) -> str:
            return self.at(x) if self.whole else f"{self.at(edges[x][0])} to {self.at(edges[x][1])}"

        rows = [[place(x), *(one.get(x, NOTHING) for one in middle)] for x in sorted(edges)]
        return Sheet(self.title, [self.x_label, *(box.name for box in self.boxes)], rows)


def spans_decades(values: Sequence[float]) -> bool:
    """Whether values, all of them positive, are read better on a logarithmic axis."""
    known = [value for value in values if math.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) > LOG_SPAN * min(known)


def _spaced(places: Sequence[float]) -> Sequence[float]:
    """At most MOST_ROWS of the places, evenly spaced, the first and the last among them."""
    if len(places) <= MOST_ROWS:
        return places
    return [places[round(k * (len(places) - 1) / (MOST_ROWS - 1))] for k in range(MOST_ROWS)]
