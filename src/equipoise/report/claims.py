"""Evidence of claims for readers: on the console, as files, and as the generated page docs/claims.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from rich.console import Console
from rich.markup import escape
from rich.table import Table as ConsoleTable

from equipoise.claims.claim import Cell, Evidence, Panel, Scale, Table
from equipoise.claims.index import CLAIMS, get
from equipoise.policy.files import whole, write_json, write_text
from equipoise.report.style import CYCLE, FAINT, direct_labels, panels, render, styled

PANEL_WIDTH = 4.5  # inches
LABEL_WIDTH, LABEL_GAP = 0.4, 0.065  # of a panel: names closer than this would overlap


def run_claim(name: str, scale: Scale = "full", out: Path | None = None) -> Evidence:
    """Run one claim; with `out`, also write its evidence there. Raises KeyError for an unknown name."""
    evidence = get(name).run(scale)
    if out is not None:
        write_evidence(name, evidence, out, scale)
    return evidence


def stored_evidence(name: str, folder: Path, scale: Scale) -> tuple[Evidence, Scale] | None:
    """What an earlier run wrote to folder/NAME.json, with its scale; None if there is nothing to go by.

    Evidence at full scale serves a quick page too. Evidence found under another rule does not count.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored.get("rule") != get(name).rule or stored.get("scale") not in ("full", scale):
        return None
    return Evidence.from_json(stored), stored["scale"]


def print_claims(console: Console) -> None:
    """The list of claims."""
    table = ConsoleTable()
    for column in ("name", "paper", "claim"):
        table.add_column(column)
    for claim in CLAIMS.values():
        table.add_row(claim.name, claim.paper, escape(claim.sentence))
    console.print(table)


def print_evidence(evidence: Evidence, console: Console) -> None:
    """Every table, then the summary and the verdict."""
    for table in evidence.tables:
        shown = ConsoleTable(title=escape(table.title), title_justify="left")
        for i, column in enumerate(table.columns):
            numeric = all(not isinstance(row[i], str) for row in table.rows)
            shown.add_column(escape(column), justify="right" if numeric else "left")
        for row in table.rows:
            shown.add_row(*(escape(cell(value)) for value in row))
        console.print(shown)
    console.print(escape(evidence.summary), highlight=False)
    console.print(f"verdict  [bold]{evidence.verdict}[/bold]")


def write_evidence(name: str, evidence: Evidence, folder: Path, scale: Scale = "full") -> list[Path]:
    """folder/NAME.json with every figure, and folder/NAME.png where there is something to draw."""
    claim = get(name)
    about = {
        "claim": name,
        "sentence": claim.sentence,
        "paper": claim.paper,
        "rule": claim.rule,
        "set": claim.set,
        "scale": scale,
    }
    paths = [folder / f"{name}.json"]
    write_json(paths[0], about | evidence.as_json())
    if evidence.panels:
        paths.append(folder / f"{name}.png")
        with whole(paths[1]) as draft:
            draft.write_bytes(picture(evidence))
    return paths


def picture(evidence: Evidence) -> bytes:
    """The panels side by side as PNG. Needs at least one."""
    with styled():
        figure, all_axes = panels(len(evidence.panels), height=3.4)
        figure.set_size_inches(PANEL_WIDTH * len(evidence.panels), 3.4)
        names = [line.name for panel in evidence.panels for line in panel.lines if not line.guide]
        bases = list(dict.fromkeys(map(base, names)))
        colours = {name: CYCLE[i % len(CYCLE)] for i, name in enumerate(bases)}
        for axes, panel in zip(all_axes, evidence.panels, strict=True):
            draw_panel(axes, panel, colours)
        return render(figure)


def base(name: str) -> str:
    """A line's name without its settings: lines that share it share a colour across panels."""
    return name.split(",")[0]


def draw_panel(axes: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    ends = []
    for line in panel.lines:
        colour = FAINT if line.guide else colours[base(line.name)]
        if line.guide:
            axes.plot(line.x, line.y, color=colour, linewidth=1, linestyle=(0, (4, 3)))
        else:
            axes.plot(line.x, line.y, color=colour, marker="o" if len(line.x) < 30 else None, markersize=3)
        if line.low and line.high:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.13, linewidth=0)
        ends.append((line.x[-1], line.y[-1], line.name, colour))
    if panel.log_x:
        axes.set_xscale("log")
        log_ticks(axes.xaxis, axes.get_xlim())
    if panel.log_y:
        axes.set_yscale("log")
        axes.set_ylim(bottom=panel.bottom)
        log_ticks(axes.yaxis, axes.get_ylim())
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_xlabel(panel.xlabel)
    axes.set_ylabel(panel.ylabel)
    axes.autoscale_view()  # limits are lazy; labels are placed by them
    name_lines(axes, ends)


def name_lines(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Lines that reach the right edge are named beside it, others where they end, or beside it too if they crowd."""
    right = max(x for x, *_ in ends)
    inside = [end for end in ends if end[0] < right]
    places = (axes.transData + axes.transAxes.inverted()).transform([end[:2] for end in ends])
    gaps = [abs(a - b) for a, b in combinations(places, 2)]
    if any(across < LABEL_WIDTH and up < LABEL_GAP for across, up in gaps):
        inside = []
    for x, y, name, colour in inside:
        at = {"textcoords": "offset points", "va": "center", "color": colour, "fontsize": 9}
        axes.annotate(name, (x, y), (5, 0), **at)
    direct_labels(axes, [end for end in ends if end not in inside], gap=LABEL_GAP)


def log_ticks(axis: Axis, limits: tuple[float, float]) -> None:
    few = limits[1] < 300 * limits[0]
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def cell(value: Cell) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown(
    found: Mapping[str, Evidence], figures: str = "figures", scales: Mapping[str, Scale] | None = None
) -> str:
    """The whole page from evidence by claim name; `figures` is the pictures' folder, relative.

    scales    at which scale each claim was run; full where nothing is said.
    """
    scales = scales or {}
    lines = [
        "# Claims",
        "",
        "Generated by `python -m equipoise.report.claims docs/claims.md`; do not edit. Each sentence below is a small "
        "program on exact games: `equipoise claims NAME` runs it and prints these figures. The verdict follows from "
        "the figures by the stated rule. Where a rule or its settings were set when figures had been seen, this is "
        "said: such a verdict tells what the program shows, and is no test of the sentence. A quick run takes seconds "
        "and fewer seeds; before you cite one, run it with `--scale full`.",
        "",
        "| claim | sentence | paper | verdict | scale |",
        "|---|---|---|---|---|",
    ]
    for name in found:
        claim = get(name)
        verdict = f"{found[name].verdict} | {scales.get(name, 'full')}"
        lines.append(f"| [`{name}`](#{name}) | {bars(claim.sentence)} | {arxiv(claim.paper)} | {verdict} |")
    for name, evidence in found.items():
        lines += [
            "",
            f"## {name}",
            "",
            f"{get(name).sentence} ({arxiv(get(name).paper)})",
            "",
            f"**{evidence.verdict}{' (quick run)' if scales.get(name) == 'quick' else ''}.** {evidence.summary}",
            "",
            f"Rule: {get(name).rule}",
            *(["", f"When it was set: {get(name).set}"] if get(name).set else []),
            "",
            f"`equipoise claims {name}`",
        ]
        if evidence.panels:
            lines += ["", f"![{'; '.join(panel.title for panel in evidence.panels)}]({figures}/{name}.png)"]
        for table in evidence.tables:
            lines += ["", *markdown_table(table)]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> list[str]:
    rule = [
        "---" if any(isinstance(row[i], str) for row in table.rows) else "---:"
        for i in range(len(table.columns))
    ]
    rows = [[bars(cell(value)) for value in row] for row in table.rows]
    return [
        table.title[:1].upper() + table.title[1:] + ".",
        "",
        *(f"| {' | '.join(row)} |" for row in ([bars(c) for c in table.columns], rule, *rows)),
    ]


def bars(text: str) -> str:
    return text.replace("|", "\\|")


def arxiv(paper: str) -> str:
    return f"[{paper}](https://arxiv.org/abs/{paper})"


def write_page(path: Path, scale: Scale = "full") -> None:
    """The page, with pictures and JSON in `figures` beside it.

    Claims whose evidence lies there already, at this scale or the full one and under the same rule, are not run
    again: remove a claim's JSON to have it run.
    """
    folder, found, scales = path.parent / "figures", {}, {}
    for name in CLAIMS:
        found[name], scales[name] = stored_evidence(name, folder, scale) or (get(name).run(scale), scale)
        write_evidence(name, found[name], folder, scales[name])
    write_text(path, markdown(found, scales=scales))


if __name__ == "__main__":
    write_page(Path(sys.argv[1]), "quick" if "quick" in sys.argv[2:] else "full")
