"""The guide to methods on the console: the list by what methods need, and one method in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equipoise.core.objectives.catalog import Confidence
from equipoise.play.method import Method
from equipoise.report.guide import CONFIDENCE, entry, grouped, row_of

SHORT: Mapping[Confidence, str] = {
    "verified in code": "code",
    "paper's text": "text",
    "recalled": "recalled",
    "derived": "derived",
}


def print_methods(methods: Sequence[Method], console: Console) -> None:
    """One line each, under what they need."""
    if not methods:
        console.print("no method is like that")
        return
    fixed = {"name": max(len(m.name) for m in methods), "paper": 10, "ref": 4, "formula": 8}
    spare = console.width - sum(fixed.values()) - 6  # a space after each column
    columns = {"name": fixed["name"], "title": spare * 4 // 9, "bounded": spare - spare * 4 // 9, **fixed}
    for heading, group in grouped(methods).items():
        table = Table(title=heading, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
        for column, width in columns.items():
            table.add_column(column, width=width, no_wrap=True, overflow="ellipsis")
        for m in group:
            table.add_row(*map(escape, line(m)))
        console.print(table, "")
    grades = "; ".join(f"{word}: {CONFIDENCE[grade]}" for grade, word in SHORT.items())
    console.print(
        f"ref: free of any frozen policy. formula: how sure we are of it ({grades}). "
        "One in full: equipoise methods NAME",
        highlight=False,
    )


def line(m: Method) -> tuple[str, ...]:
    """A method's cells in the list."""
    found = row_of(m.objective)
    title = m.title if m.status == "stable" else f"({m.status}) {m.title}"
    bounded = found[1].bounded if found else ""
    return m.name, title, bounded, m.paper, "" if m.anchors else "free", SHORT[m.confidence]


def print_method(method: Method, console: Console) -> None:
    """The four choices, the formula, and what is known of them."""
    e = entry(method)
    say = _Printer(console)
    console.print(f"[bold]{escape(e['title'])}[/bold]", highlight=False)
    say.field("paper", f"https://arxiv.org/abs/{e['paper']}" if e["paper"] else "none")
    say.field("needs", e["needs"])
    say.field("status", e["status"])
    say.field("confidence", f"{e['confidence']}: {CONFIDENCE[method.confidence]}")
    console.print()
    say.field("players", _with_source(e["players"], e["players_source"]))
    say.field("oracle", e["oracle"])
    say.field("pairing", _with_source(e["pairing"], e["pairing_source"]))
    say.field("objective", f"{e['objective']}; {anchors(e)}")
    say.field("update", f"{e['update']}; {e['rounds']} rounds")
    console.print(f"\n{escape(e['formula'])}\n", highlight=False, soft_wrap=True)
    table = Table("default", "value", "source", box=None, pad_edge=False)
    for name, value in e["defaults"].items():
        table.add_row(*map(escape, (name, short(value), e["sources"][name])))
    console.print(table, "")
    say.field("bounded", e["bounded"] or "no objective, or none of the catalogue")
    say.fields("limit", e["limits"])
    say.fields("elsewhere", e["deviations"])
    say.fields("claim", [f"equipoise claims {name}" for name in e["claims"]])
    say.fields("test", e["tests"])
    if e["notes"]:
        say.field("notes", e["notes"])


class _Printer:
    def __init__(self, console: Console) -> None:
        self.console = console

    def field(self, name: str, value: str) -> None:
        self.console.print(f"[bold]{name:<11}[/bold] {escape(value)}", highlight=False, soft_wrap=True)

    def fields(self, name: str, values: Sequence[str]) -> None:
        for value in values or ["none recorded"]:
            self.field(name, value)


def _with_source(choice: str, source: str) -> str:
    return f"{choice} ({source})" if source else choice


def anchors(e: dict[str, Any]) -> str:
    """An entry's anchors in words."""
    named = ", ".join(f"{name} = {policy}" for name, policy in e["anchors"].items())
    return f"anchors {named}" if named else "no anchors: free of any frozen policy"


def short(value: Any) -> str:
    """A default as it is printed."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
