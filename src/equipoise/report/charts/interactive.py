"""Charts on a page: bokeh's figures as JSON, its script, and the policy that lets exactly these scripts run.

bokeh was preferred to plotly: both carry their JavaScript in the Python package, 1.3 MB and 4.8 MB. It is imported
when a page is written. Colours are named here and given by the page's style sheet, light or dark.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from equipoise.report.charts.chart import COLOURS, Chart, Line

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure

HEIGHT = 260  # pixels
MOST_POINTS = 1500  # of a faint trace; of more, the smallest and the largest of each stretch are drawn
TIP = [("", "@said")]  # one line to a mark, so that those of several lie next to each other
DASHES = ("solid", "dashed", "dotdash")  # of the lines after as many as there are colours


def page_scripts(charts: Sequence[Chart]) -> dict[str, Any]:
    """What a template with charts needs: the scripts, the charts' data, and the hashes for its security policy.

    Empty for no chart: such a page has no script at all.
    """
    if not charts:
        return {"scripts": [], "charts_json": "", "script_hashes": []}
    from bokeh.resources import Resources

    library = Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0]
    own = files("equipoise.report").joinpath("templates/charts.js").read_text("utf-8")
    scripts = [library.strip(), own.strip()]
    if any("</script" in script.lower() for script in scripts):
        raise ValueError("bokeh's script holds an end of script, and cannot be written into a page")
    return {
        "scripts": scripts,
        "charts_json": data([(f"chart-{chart.name}", chart) for chart in charts]),
        "script_hashes": [_hash(script) for script in scripts],
    }


def data(charts: Sequence[tuple[str, Chart]]) -> str:
    """Charts, each with the id of the element that it is drawn into, as JSON that is safe inside a script element."""
    from bokeh.embed import json_item

    items = [json_item(draw(chart), target) for target, chart in charts]
    text = json.dumps(items, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    names: dict[str, str] = {}
    # bokeh counts its models over the whole process: numbered from 0, the same charts give the same page
    text = re.sub(r'"p\d+"', lambda found: names.setdefault(found[0], f'"p{len(names)}"'), text)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def draw(chart: Chart) -> Figure:
    """The chart as bokeh's figure."""
    from bokeh.models import FixedTicker, NumeralTickFormatter, Span
    from bokeh.plotting import figure

    plot = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        tools="",
        toolbar_location=None,
        y_axis_type="log" if chart.log else "linear",
        x_axis_label=chart.x_label,
        y_axis_label=chart.y_label,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    plot.toolbar.logo = None
    plot.xgrid.grid_line_color = None
    for axis in plot.axis:
        axis.update(major_tick_in=0, minor_tick_line_color=None, axis_label_text_font_style="normal")
        axis.update(axis_label_text_font_size="12px", major_label_text_font_size="12px")
    if chart.whole and not chart.places:
        plot.xaxis.ticker.update(min_interval=1.0, num_minor_ticks=0)
        plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    if chart.share:
        plot.yaxis.formatter = NumeralTickFormatter(format="0 %")
    for place in chart.boundaries:
        plot.add_layout(Span(location=place, dimension="height", line_dash="dotted", tags=["soft"]))
    if chart.level:
        plot.add_layout(Span(location=chart.level[0], dimension="width", line_dash="dashed", tags=["soft"]))
    if chart.places:
        names = dict(enumerate(chart.places))
        plot.xaxis.update(ticker=FixedTicker(ticks=list(names)), major_label_overrides=names)
    _boxes(plot, chart)
    for line in chart.lines:
        _line(plot, chart, line)
    if chart.star:
        x, y, text = chart.star
        _line(plot, chart, Line(name=text, x=[x], y=[y], colour=5, star=True))
    _range(plot, chart)
    return plot


def _line(plot: Figure, chart: Chart, line: Line) -> None:
    """A line with its interval, which says the nearest value wherever a pointer is above or below it."""
    from bokeh.models import ColumnDataSource, HoverTool

    tags = [f"s{line.colour % COLOURS}"]
    points = _drawn(line)
    if line.faint:
        x, y = [x for x, _, _ in points], [y for _, y, _ in points]
        plot.line(x, y, line_width=1, line_alpha=0.35).glyph.tags = tags
        return
    ends = [
        (at, low, high)
        for at, low, high in zip(line.x, line.low or (), line.high or (), strict=False)
        if low is not None and high is not None
    ]
    if ends:
        at, low, high = (list(values) for values in zip(*ends, strict=True))
        plot.varea(at, low, high, fill_alpha=0.14).glyph.tags = tags
        plot.segment(at, low, at, high, line_width=1).glyph.tags = tags
    source = ColumnDataSource(
        {
            "x": [x for x, _, _ in points],
            "y": [y for _, y, _ in points],
            "said": [
                f"{line.name}, {chart.x_label} {chart.at(x)}: {chart.said(line, index)}"
                for x, _, index in points
            ],
        }
    )
    dash = DASHES[line.colour // COLOURS % len(DASHES)]
    drawn = plot.line("x", "y", source=source, line_width=2, line_dash=dash)
    drawn.glyph.tags = tags
    if line.marked or len(points) == 1:
        dots = plot.scatter("x", "y", source=source, size=16 if line.star else 6, line_color=None)
        dots.glyph.update(tags=[*tags, "dot"], marker="star" if line.star else "circle")
        drawn = dots if len(points) == 1 else drawn
    hover = HoverTool(renderers=[drawn], tooltips=TIP, line_policy="nearest", attachment="horizontal")
    hover.mode = "mouse" if len(points) == 1 else "vline"
    plot.add_tools(hover)


def _drawn(line: Line) -> list[tuple[float, float, int]]:
    """(x, y, index) of the points of a line, broken where a part ends; of a long faint one each stretch's extremes."""
    kept = [i for i, value in enumerate(line.y) if math.isfinite(value)]
    if line.faint and len(kept) > MOST_POINTS:
        size = math.ceil(2 * len(kept) / MOST_POINTS)
        stretches = [kept[start : start + size] for start in range(0, len(kept), size)]
        kept = [
            i
            for stretch in stretches
            for i in sorted({min(stretch, key=line.y.__getitem__), max(stretch, key=line.y.__getitem__)})
        ]
    points: list[tuple[float, float, int]] = []
    for i in kept:
        if i in line.parts:
            points.append((line.x[i], math.nan, i))
        points.append((line.x[i], line.y[i], i))
    return points


def _boxes(plot: Figure, chart: Chart) -> None:
    from bokeh.models import ColumnDataSource, HoverTool

    for box in chart.boxes:
        source = ColumnDataSource(
            {
                "left": list(box.left),
                "right": list(box.right),
                "bottom": list(box.bottom),
                "top": list(box.top),
                "said": [f"{box.name}: {said}" for said in box.said],
            }
        )
        drawn = plot.quad("left", "right", "top", "bottom", source=source, line_width=1)
        drawn.glyph.tags = [f"s{box.colour % COLOURS}", "box"]
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=TIP))


def _range(plot: Figure, chart: Chart) -> None:
    """Ranges that show every mark: bokeh's own follow renderers, not levels, and know no zero."""
    from bokeh.models import Range1d

    xs = [x for line in chart.lines for x in line.x]
    xs += [x for box in chart.boxes for x in (*box.left, *box.right)]
    if xs:
        room = 0.03 * (max(xs) - min(xs)) or 0.5
        plot.x_range = Range1d(min(xs) - room, max(xs) + room)
    ys = [v for line in chart.lines for v in (*line.y, *(line.low or ()), *(line.high or ()))]
    ys += [v for box in chart.boxes for v in (*box.bottom, *box.top)] + (
        [chart.level[0]] if chart.level else []
    )
    known = [float(v) for v in ys if v is not None and math.isfinite(v) and (v > 0 or not chart.log)]
    if chart.log or not known:
        return
    low, high = min(known), max(known)
    if chart.from_zero:
        low, high = min(0.0, low), max(0.0, high)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 0.5
    low, high = low - room * (not chart.from_zero or low < 0), high + room
    if chart.share:
        low, high = max(low, -0.02), min(high, 1.02)
    plot.y_range = Range1d(low, high)


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
