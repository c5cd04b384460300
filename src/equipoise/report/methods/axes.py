"""Axes of the methods' taxonomy: filtering by them, and their table (`equipoise methods --axes`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equipoise.name_lookup import known_name
from equipoise.report.methods.text import WIDE, Entry

AXES: Mapping[str, str] = {
    "feedback": "what says that a response is good",
    "granularity": "of what it is said",
    "paradigm": "whose responses a method trains on",
    "aim": "which policy it seeks",
    "reference": "frozen policies that the loss reads: fixed ones, ones that move from round to round, or none",
    "divergence": "how the distance to a frozen policy is measured",
    "target": "what the method's paper sets out to mend",
}

NARROW = ("feedback", "paradigm", "reference", "target")  # on a narrow terminal


def filtered(methods: Iterable[Entry], by: Sequence[str]) -> list[Entry]:
    """The entries that have every asked value, written AXIS=VALUE.

    Raises KeyError for an unknown axis, ValueError for a value that no method has, naming those there are.
    """
    kept = list(methods)
    known = list(kept)
    for one in by:
        name, there, value = one.partition("=")
        axis = known_name(name, AXES, "axis", "equipoise methods --axes")
        values = sorted({e["axes"][axis] for e in known})
        if not there or value not in values:
            raise ValueError(f"--by {one}: give {axis}=VALUE with one of: {', '.join(values)}")
        kept = [e for e in kept if e["axes"][axis] == value]
    return kept


def print_axes(methods: Sequence[Entry], console: Console) -> None:
    """A line for every method with its value on each axis, and what the axes mean."""
    if not methods:
        console.print("no method matches")
        return
    shown = list(AXES) if console.width >= WIDE else NARROW
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    for axis in shown:
        table.add_column(axis, overflow="fold")
    for e in methods:
        table.add_row(*(escape(value) for value in (e["name"], *(e["axes"][axis] for axis in shown))))
    console.print(table, "")
    if len(shown) < len(AXES):
        console.print(f"{WIDE} columns show all axes", "", highlight=False)
    for axis, words in AXES.items():
        console.print(f"[bold]{axis:<11}[/bold] {words}", highlight=False)
