"""Comparison of runs as text: tables that fit the terminal, numbers for names that do not, settings that differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from equipoise.report.comparison.compare import HEADINGS, MAX_SETTINGS, SAID, Compared, Comparison, Group
from equipoise.report.labels import label

GAP = 2  # blanks between two columns
LONGEST_NAME = 40
WIDEST = 24  # characters of a run's column in the table of settings


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the tables, what the differences say, what cannot be compared, and the settings that differ.

    A run whose name leaves no room for the figures is shown by its number, which is listed first; tables that are wider
    than the terminal are divided. Names are untrusted and carry no markup.
    """
    console = console or Console()
    names = _short_names(comparison, console.width)
    print_table(comparison, console)
    for sentence in (*comparison.said, *comparison.apart):
        console.print(Text(label(sentence, 400)))
    _print_settings(comparison, names, console)


def print_table(comparison: Comparison, console: Console | None = None) -> None:
    """Print the figures, without the columns that nothing fills."""
    console = console or Console()
    names = _short_names(comparison, console.width)
    if names != comparison.names:
        for short, name in zip(names, comparison.names, strict=True):
            console.print(Text(f"{short}  {label(name, 200)}"))
        console.print()
    first = True
    for group in comparison.groups:
        for figures in _packed(_widths(group), console.width - _name_width(group.rows, names)):
            if not first:
                console.print()
            first = False
            console.print(_figures(group.rows, figures, names))


def _figures(rows: Sequence[Compared], figures: Sequence[str], names: Sequence[str]) -> Table:
    table = _table("")
    for figure in figures:
        table.add_column(HEADINGS[figure], justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(_name(row, names)), *(Text(_cell(row, figure)) for figure in figures))
    return table


def _print_settings(comparison: Comparison, names: Sequence[str], console: Console) -> None:
    shown = [(label(name, 60), values) for name, values in comparison.settings[:MAX_SETTINGS]]
    if not shown:
        return
    first = max(len(name) for name, _ in shown)
    widths = {
        str(run): min(WIDEST, max(len(label(text, 60)) for text in (name, *(v[run] for _, v in shown))))
        for run, name in enumerate(names)
    }
    console.print(Text("settings that differ", style="italic"))
    for number, part in enumerate(_packed(widths, console.width - first)):
        if number:
            console.print()
        table = _table("")
        for run in map(int, part):
            table.add_column(Text(label(names[run], 60)), overflow="fold", max_width=WIDEST)
        for name, values in shown:
            table.add_row(Text(name), *(Text(label(values[run], 60)) for run in map(int, part)))
        console.print(table)


def _table(title: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, no_wrap=True)
    return table


def _short_names(comparison: Comparison, width: int) -> tuple[str, ...]:
    """The runs' names, or their numbers where the names leave the widest table no room for its figures."""
    room = width - max((_natural(_widths(group)) for group in comparison.groups), default=0)
    longest = max(
        (len(label(row.name, LONGEST_NAME)) for g in comparison.groups for row in g.rows), default=0
    )
    cut = any(len(name) > LONGEST_NAME for name in comparison.names)
    if longest <= room and not cut:
        return comparison.names
    return tuple(str(number) for number in range(1, len(comparison.names) + 1))


def _packed(widths: dict[str, int], room: int) -> Iterator[list[str]]:
    """The columns divided into tables, each as wide as there is room beside the names; one column at least."""
    part: list[str] = []
    left = room
    for name, width in widths.items():
        if part and width + GAP > left:
            yield part
            part, left = [], room
        part.append(name)
        left -= width + GAP
    if part:
        yield part


def _widths(group: Group) -> dict[str, int]:
    """Width of each column of figures that something fills."""
    return {
        figure: max(
            len(line)
            for text in (HEADINGS[figure], *(_cell(row, figure) for row in group.rows))
            for line in text.split("\n")
        )
        for figure in group.filled()
    }


def _natural(widths: dict[str, int]) -> int:
    return sum(widths.values()) + GAP * len(widths)


def _name_width(rows: Sequence[Compared], names: Sequence[str]) -> int:
    return max(len(_name(row, names)) for row in rows)


def _name(row: Compared, names: Sequence[str]) -> str:
    return label(row.name if row.index is None else names[row.index], LONGEST_NAME)


def _cell(row: Compared, figure: str) -> str:
    """A cell: the value, and the interval, of what the differences speak of, under it."""
    value, interval = row.parts(figure)
    return f"{value}\n{interval.removesuffix(' %')}" if interval and figure in SAID else value
