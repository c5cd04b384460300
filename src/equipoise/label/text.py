"""The summary of a votes file as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from equipoise.safe_text import printable


def print_summary(figures: Mapping[str, Any], console: Console) -> None:
    """Print what `summary` found; intervals of 95 % in brackets."""
    console.print(f"{figures['labelled']:,} of {figures['pairs']:,} pairs have a label", highlight=False)
    columns = (
        "rater",
        "answered",
        "A",
        "B",
        "tie",
        "both bad",
        "skip",
        "left chosen",
        "agrees with themselves",
    )
    _table(
        console,
        columns,
        [
            (
                one["name"],
                f"{one['answered']:,} of {one['of']:,}",
                *(f"{one[choice]:,}" for choice in ("a", "b", "tie", "bad", "skip")),
                _interval(one["left"]),
                _interval(one["self_agreement"]),
            )
            for one in figures["raters"]
        ],
    )
    _table(
        console,
        ("raters", "pairs of both", "agree", "Cohen's kappa"),
        [
            (" and ".join(one["raters"]), f"{one['pairs']:,}", _number(one["agree"]), _number(one["kappa"]))
            for one in figures["between_raters"]
        ],
    )
    _table(
        console,
        ("system", "against", "win rate", "pairs"),
        [
            (one["first"], one["second"], _interval(one["win_rate"]), f"{one['win_rate']['n']:,}")
            for one in figures["systems"]
        ],
    )
    named = [("the data's labels", figures.get("recorded")), ("", figures.get("oracle"))]
    _table(
        console,
        ("people and", "agree", "decided by both", "a tie of either", "without"),
        [
            (
                name or one["name"],
                _interval(one["agree"]),
                f"{one['agree']['n'] if one['agree'] else 0:,}",
                f"{one['ties']:,}",
                f"{one['without']:,}",
            )
            for name, one in named
            if one
        ],
    )


def _table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(printable, row))
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "-"
    value, low, high = interval["value"], interval["low"], interval["high"]
    # in round brackets: the console reads square ones as markup
    return f"{value:.2f}" if low is None else f"{value:.2f} ({low:.2f} to {high:.2f})"
