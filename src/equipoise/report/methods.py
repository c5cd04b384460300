"""The guide to methods: what they are for, how sure we are of them, as tables on the console."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equipoise.core.objectives.catalog import Confidence
from equipoise.methods.index import OFFLINE, TO_A_REWARD, TO_PLAIN_NASH, TO_REGULARISED_NASH, describe
from equipoise.play.method import Method

GROUPS: Mapping[str, tuple[Method, ...]] = {
    "Offline: recorded pairs are enough": OFFLINE,
    "Self-play towards the KL-regularised Nash policy": TO_REGULARISED_NASH,
    "Self-play towards the plain Nash policy": TO_PLAIN_NASH,
    "Towards a reward: online, but no game": TO_A_REWARD,
}

CONFIDENCE: Mapping[Confidence, str] = {
    "verified in code": "read in the authors' code or in a major library's",
    "paper's text": "read in the paper or in a detailed account of it",
    "recalled": "from general knowledge of the paper, not read again",
    "derived": "worked out here from stated definitions, the paper's own not being to be had; tested against them",
}


def print_methods(console: Console) -> None:
    longest = max(len(m.name) for methods in GROUPS.values() for m in methods)
    for group, methods in GROUPS.items():
        table = Table(title=group, title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("name", min_width=longest)
        table.add_column("title", ratio=1)
        for column, width in (("paper", 10), ("needs", 6), ("formula", 16)):
            table.add_column(column, min_width=width)
        for m in methods:
            title = m.title if m.status == "stable" else f"{m.title} ({m.status})"
            table.add_row(*map(escape, (m.name, title, m.paper, m.needs, m.confidence)))
        console.print(table, "")


def print_method(method: Method, console: Console) -> None:
    described = describe(method)
    described["confidence"] += f": {CONFIDENCE[method.confidence]}"
    for key, value in described.items():
        console.print(f"[bold]{key:<11}[/bold] {escape(str(value))}", highlight=False)
    console.print(
        f"\n{escape(inspect.getdoc(type(method.objective or method.update)) or '')}", highlight=False
    )
