"""The report of `equipoise explain` on the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equipoise.report.semantics.explanation import PAPER, Report

SYMBOL: Mapping[str, str] = {"M(w)": "p_w", "M(l)": "p_l", "Ref(w)": "q_w", "Ref(l)": "q_l"}
EFFECT: Mapping[str, str] = {
    "+": "raises it, whatever the probabilities",
    "-": "lowers it, whatever the probabilities",
    "0": "leaves it alone",
    "both": "raises it or lowers it: which depends on the probabilities",
    "undecided": "sign not decided",
}
SAYS: Mapping[str, str] = {
    "stronger": "never smaller than",
    "weaker": "never larger than",
    "equivalent": "the same as",
    "incomparable": "sometimes larger, sometimes smaller than",
    "undecided": "not decided against",
}
WHY: Mapping[str, str] = {
    "meaning": "rows: wins and losses of one are among the other's",
    "value": "counts: the rows do not decide, the probabilities do",
    "witnesses": "two points, one each way",
}
CONFIDENCE: Mapping[str | None, str] = {
    "paper's text": f"formulas as in {PAPER}, by a secondary account of it; ratio, pulls and relations derived here",
    "derived": "worked out here from the ratio",
    None: "read off the formulas as typed",
}


def print_explained(report: Report, console: Console) -> None:
    """One loss, or one formula."""
    if report["reason"]:
        _line(console, f"{report['asked']} is not expressed by one structure: {report['reason']}.")
        return
    if report["reading"]:
        _print_reading(report["reading"], console)
    main, *others = report["structures"]
    _print_structure(main, console)
    for section in others:
        _line(console, f"\nand {section['name']}: {section['core']}    R = {section['ratio']}")
        _line(console, f"  in full: equipoise explain {section['name']}")


def _line(console: Console, text: str) -> None:
    console.print(escape(text), highlight=False)


def _print_reading(reading: Report, console: Console) -> None:
    _line(console, f"{reading['name']} says {terms(reading)}")
    _line(console, f"link        {reading['link']}: {reading['formula']}")
    if reading["note"]:
        _line(console, f"beside it   {reading['note']}")
    _line(console, "")


def _print_structure(section: Report, console: Console) -> None:
    title = f": {section['title']}" if section["title"] else ""
    _line(console, f"{section['name']}{title}")
    for name, key in (("formula", "core"), ("judged where", "given"), ("both ways", "also")):
        short = section["shortest"][key]
        plain = "" if short == section[key] else f"    (shortest: {short})"
        _line(console, f"{name:<14}{section[key]}{plain}")
    _line(console, f"{'in words':<14}{section['words']}")
    console.print(_truth_table(section))
    symmetric = "R becomes 1/R" if section["symmetric"] else "R does not become 1/R"
    _line(console, f"{'R':<14}{section['ratio']}    (responses exchanged: {symmetric})")
    _line(console, f"{'loss':<14}-log sigma(log R) = softplus(-log R)")
    for pull in section["pulls"]:
        what = f"d log R / d log {SYMBOL[pull['atom']]}"
        model = pull["atom"].startswith("M")
        effect = EFFECT[pull["sign"]] if model else "frozen"
        _line(console, f"{what}  {pull['coefficient']}    {effect}")
    _line(console, f"{'blind to':<14}{'; '.join(blind_spots(section)) or 'no row'}")
    if section["note"]:
        _line(console, f"{'note':<14}{section['note']}")
    if section["relations"]:
        console.print(_relations(section))
    else:
        _line(console, "what it was to be compared with is the same structure")
    _line(console, f"source: {CONFIDENCE[section['confidence']]}")


def _truth_table(section: Report) -> Table:
    table = Table()
    for atom in section["atoms"]:
        table.add_column(atom, justify="center")
    table.add_column("mark")
    styles = {"win": "blue", "lose": "red", "both": "magenta", "ignored": "dim"}
    for row in section["rows"]:
        mark = row["mark"]
        table.add_row(*(str(v) for v in row["values"]), f"[{styles[mark]}]{mark}[/]")
    return table


def blind_spots(section: Report) -> list[str]:
    """The rows that are ignored, in words; many rows as a count."""
    rows = [row["values"] for row in section["rows"] if row["mark"] == "ignored"]
    if len(section["atoms"]) > 2:
        return [f"{len(rows)} of {len(section['rows'])} rows"] if rows else []
    return [valid_in(section["atoms"], values) for values in rows]


def valid_in(atoms: Sequence[str], values: Sequence[int]) -> str:
    """A row in words."""
    true = [atom for atom, value in zip(atoms, values, strict=True) if value]
    if len(true) == len(atoms):
        return " and ".join(true)
    return (
        f"{true[0]} alone"
        if true
        else f"neither {' nor '.join(atoms)}"
        if len(atoms) > 1
        else f"not {atoms[0]}"
    )


def _relations(section: Report) -> Table:
    """Other structures grouped by how the loss stands to them."""
    table = Table(title="this loss is", title_justify="left")
    for column in ("", "", "decided by"):
        table.add_column(column)
    groups: dict[tuple[str, str], list[str]] = {}
    for found in section["relations"]:
        groups.setdefault((found["kind"], found["by"]), []).append(found["to"])
    order = list(SAYS)
    for (kind, by), names in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        table.add_row(SAYS[kind], escape(", ".join(names)), WHY[by])
    return table


def print_everything(report: Report, console: Console) -> None:
    """All structures, who says them, and the order."""
    table = Table(title="structures", title_justify="left")
    for column in ("name", "formula", "R", "stronger than"):
        table.add_column(column)
    below: dict[str, list[str]] = {}
    for edge in report["edges"]:
        below.setdefault(edge["stronger"], []).append(edge["weaker"])
    for section in report["structures"]:
        cells = (section["name"], section["core"], section["ratio"])
        table.add_row(*map(escape, cells), escape(", ".join(below.get(section["name"], ["-"]))))
    console.print(table)
    table = Table(title="objectives", title_justify="left")
    for column in ("name", "says", "link"):
        table.add_column(column)
    for reading in report["readings"]:
        table.add_row(escape(reading["name"]), escape(terms(reading)), reading["link"])
    console.print(table)
    _line(console, f"no structure: {', '.join(report['unread'])} (equipoise explain NAME says why)")
    counted = report["census"]
    _line(
        console,
        f"over M(w) and M(l) there are {counted['all']} structures: {counted['losses']} with a loss, "
        f"{counted['speaking']} of them not constant, {counted['monotone']} of these never against the preference, "
        f"{counted['both']} of these read both responses",
    )


def terms(reading: Report) -> str:
    """The parts of a loss as a sum."""
    return " + ".join(
        part["structure"] if part["weight"] == "1" else f"({part['weight']}) {part['structure']}"
        for part in reading["parts"]
    )
