"""Console output of methods: the list by data requirements, and one method in full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Entry: TypeAlias = Mapping[str, Any]  # the guide's entry of a method

Need = Literal["pairs", "unpaired", "lists", "demonstrations", "scores", "online"]
NEEDS: Mapping[Need, str] = {
    "pairs": "Recorded pairs: a chosen and a rejected response",
    "unpaired": "Recorded single responses, labelled desirable or undesirable",
    "lists": "Recorded ranked lists or trees of responses",
    "demonstrations": "Recorded responses to imitate",
    "scores": "Recorded responses with scores",
    "online": "Prompts and an oracle",
}

# confidence in a formula: the grade and its meaning, then its word in the list
CONFIDENCE: Mapping[str, str] = {
    "verified in code": "read in the authors' code or in a major library's",
    "paper's text": "read in the paper or in a detailed account of it",
    "recalled": "from general knowledge of the paper, not read again",
    "derived": "worked out here from stated definitions, the paper's own not being to be had; tested against them",
}
SHORT: Mapping[str, str] = {
    "verified in code": "code",
    "paper's text": "text",
    "recalled": "recalled",
    "derived": "derived",
}


WIDE = 120  # columns from which the list shows everything
CELLS = ("name", "title", "bounded", "paper", "ref", "formula")  # of `line`

# the data that one has, a method to begin with, and why
START = (
    ("chosen and rejected answers", "dpo", "one fit, no sampling: the usual start"),
    ("the same, little memory", "simpo", "needs no reference model"),
    ("the same, few and uneven", "spac", "cautious where the pairs say little"),
    ("single answers, good or bad", "kto", "needs no pairs"),
    ("ranked lists of answers", "plackett_luce", "uses the whole order"),
    ("answers to imitate", "sft", "often the step before preferences"),
    ("prompts and a judge", "inpo", "few rounds, to an unbeaten policy"),
    ("prompts and a reward model", "online_dpo", "learns from its own scored answers"),
)


def chosen(methods: Iterable[Entry], need: str | None = None, reference_free: bool = False) -> list[Entry]:
    """Methods filtered by data need and by whether they read a frozen policy. Raises ValueError for an unknown need."""
    need = "unpaired" if need == "unary" else need  # its name in earlier versions
    if need is not None and need not in NEEDS:
        raise ValueError(f"unknown data need {need!r} (known: {', '.join(NEEDS)})")
    return [e for e in methods if need in (None, e["need"]) and (e["reference_free"] or not reference_free)]


def grouped(methods: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The methods under their headings: by data need, the online ones also by the policy they converge to."""
    groups: dict[str, list[Entry]] = {}
    for need, title in NEEDS.items():
        mine = [e for e in methods if e["need"] == need]
        for aim in dict.fromkeys(e["aim"] for e in mine):
            heading = f"{title}, towards {aim}" if aim else title
            groups[heading] = [e for e in mine if e["aim"] == aim]
    return groups


def print_methods(methods: Sequence[Entry], console: Console) -> None:
    """Where to start, then one line for every method, grouped by data requirements.

    A narrow terminal shows names, whole titles and papers; a wide one also in what a method is bounded, and the rest.
    """
    if not methods:
        console.print("no method matches")
        return
    _print_start(methods, console)
    wide = console.width >= WIDE
    fixed = {"name": max(len(e["name"]) for e in methods), "paper": 10, "ref": 4}
    fixed |= {"formula": 8} if wide else {}
    spare = console.width - sum(fixed.values()) - (6 if wide else 4)  # a space after each column
    columns = {"name": fixed["name"], "title": spare // 2 if wide else spare}
    columns |= ({"bounded": spare - spare // 2} if wide else {}) | fixed
    for heading, group in grouped(methods).items():
        table = Table(title=heading, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
        for column, width in columns.items():
            table.add_column(column, width=width, overflow="fold")
        for e in group:
            cells = dict(zip(CELLS, line(e), strict=True))
            table.add_row(*(escape(cells[column]) for column in columns))
        console.print(table, "")
    if not wide:
        console.print(
            f"ref: free of any frozen policy. One in full: equipoise methods NAME. {WIDE} columns show more",
            highlight=False,
        )
        return
    grades = "; ".join(f"{word}: {CONFIDENCE[grade]}" for grade, word in SHORT.items())
    console.print(
        f"ref: free of any frozen policy. formula: how sure we are of it ({grades}). "
        "One in full: equipoise methods NAME",
        highlight=False,
    )


def _print_start(methods: Sequence[Entry], console: Console) -> None:
    """The few methods to begin with, by the data that one has."""
    there = {e["name"] for e in methods}
    rows = [(have, name, why) for have, name, why in START if name in there]
    if not rows:
        return
    table = Table(
        title="Start here", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column("you have", width=max(len(have) for have, _, _ in rows))
    table.add_column("take", width=max(len(name) for _, name, _ in rows))
    table.add_column("because", overflow="fold")
    for have, name, why in rows:
        table.add_row(have, name, why)
    console.print(table, "")


def line(e: Entry) -> tuple[str, ...]:
    """A method's cells in the list."""
    title = e["title"] if e["status"] == "stable" else f"({e['status']}) {e['title']}"
    free = "free" if e["reference_free"] else ""
    return e["name"], title, e["bounded"], e["paper"], free, SHORT[e["confidence"]]


def print_method(e: Entry, console: Console) -> None:
    """One method in full: its four choices, formula, defaults, limits and evidence."""
    say = _Printer(console)
    console.print(f"[bold]{escape(e['title'])}[/bold]", highlight=False)
    say.field("paper", f"https://arxiv.org/abs/{e['paper']}" if e["paper"] else "none")
    say.field("needs", e["needs"])
    say.field("status", e["status"])
    say.field("confidence", f"{e['confidence']}: {CONFIDENCE[e['confidence']]}")
    console.print()
    say.field("players", sourced(e["players"], e["players_source"]))
    say.field("oracle", e["oracle"])
    say.field("pairing", sourced(e["pairing"], e["pairing_source"]))
    say.field("objective", f"{e['objective']}; {anchors(e)}")
    say.field("update", f"{e['update']}; {e['rounds']} rounds")
    say.field("taxonomy", "; ".join(f"{axis} {value}" for axis, value in e["axes"].items()))
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


def sourced(choice: str, source: str) -> str:
    """A choice and where it comes from, where that is recorded."""
    return f"{choice} ({source})" if source else choice


def anchors(e: Entry) -> str:
    """An entry's anchors in words."""
    named = ", ".join(f"{name} = {policy}" for name, policy in e["anchors"].items())
    return f"anchors {named}" if named else "no anchors: free of any frozen policy"


def short(value: Any) -> str:
    """A default as it is printed."""
    if isinstance(value, str):
        return value.replace("\n", "\\n")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
