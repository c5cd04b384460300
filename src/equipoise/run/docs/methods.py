"""Generator of the method pages and the stored guide: `python -m equipoise.run.docs.methods`.

It writes the pages of all methods under docs/methods, and the file that `equipoise methods` and `equipoise claims`
print from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipoise.claims.grades import GRADES
from equipoise.claims.index import CLAIMS
from equipoise.games import zoo
from equipoise.games.fit import NotConverged
from equipoise.methods.index import METHODS
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.report.methods import stored
from equipoise.report.methods.guide import entry
from equipoise.report.methods.text import CONFIDENCE, Entry, anchors, grouped, line, short, sourced
from equipoise.worlds.table.play_game import play_game

DOCS = Path("docs/methods")
GAME = "brps"
BY_HAND = {"spac": "spac", "dpo": "dpo", "cdpo": "cdpo", "ipo": "ipo", "ipo_mean": "ipo", "inpo": "inpo"}

INTRODUCTION = """\
# Reference of all methods

Generated from `src/equipoise/methods/` and the catalogue of objectives, with a page for each method; do not edit.
`python -m equipoise.run.docs.methods` writes it, `equipoise methods` prints it. Which one to take:
[Self-play](../self_play.md).

A method is four choices: players, oracle and pairing, objective, update. Its anchors are frozen policies: "initial" is
the policy at the start of the run, "start" the one at the start of the round, and any other name a policy that the
update keeps from round to round. "free" under ref: the method reads no frozen policy.

`equipoise methods --axes` sorts the methods as a survey (2503.11701, its sub-branches RECALLED) does: by feedback,
granularity, paradigm, reference, divergence and what they set out to mend; `--by paradigm=offline --by
reference=none` filters.

Change a parameter with `--set NAME=VALUE`. Exact games (win-rate payoffs) and the playground (the built-in language
game with its tiny model) have separate defaults. `equipoise play` uses the closed form of a round if there is one;
with `--gradient` it minimises the objective that language models are trained on.

How sure we are of a formula (docstrings and notes write the last two as RECALLED and DERIVED):
"""


def guide() -> str:
    """The stored guide: every method's entry, and every claim's sentence and grade."""
    claims = [
        {"name": c.name, "sentence": c.sentence, "paper": c.paper, "grade": GRADES[c.name].letter}
        for c in CLAIMS.values()
    ]
    return stored.text(entries(), claims)


def entries() -> list[dict[str, Any]]:
    """The entries of all methods."""
    return [entry(m) for m in METHODS.values()]


def index() -> str:
    """docs/methods/reference.md: one line per method, grouped by data requirements."""
    lines = [INTRODUCTION, *(f"- **{grade}**: {words}." for grade, words in CONFIDENCE.items()), ""]
    for heading, methods in grouped(entries()).items():
        rows = []
        for name, title, bounded, paper, free, formula in map(line, methods):
            rows.append((f"[{name}](reference/{name}.md)", title, bounded, _paper(paper), free, formula))
        lines += [f"## {heading}", ""]
        lines += _table(("name", "title", "bounded", "paper", "ref", "formula"), rows)
    return "\n".join(lines).rstrip() + "\n"


def page(method: Method) -> str:
    """docs/methods/reference/NAME.md: the reference entry of one method."""
    e = entry(method)
    status = "" if e["status"] == "stable" else f" Status: **{e['status']}**."
    needs = f"Needs {e['needs']}.{' Reads no frozen policy.' if e['reference_free'] else ''}{status}"
    lines = [f"# {e['name']}: {e['title']}", "", f"{_paper(e['paper']) or 'No paper'}. {needs}", ""]
    if method.name in BY_HAND:
        lines += [f"More, by hand: [{BY_HAND[method.name]}](../{BY_HAND[method.name]}.md).", ""]
    lines += ["```text", e["formula"], "```", ""]
    lines += [f"**How sure:** {e['confidence']}, {CONFIDENCE[method.confidence]}.", ""]
    lines += [f"**Bounded:** {e['bounded']}.", ""] if e["bounded"] else []
    lines += ["## Choices", "", *_choices(e), "## Defaults", "", *_defaults(method, e)]
    lines += _bullets("Limits", e["limits"]) + _bullets("Elsewhere", e["deviations"])
    proof = [f"claim [`{name}`](../../claims.md)" for name in e["claims"]]
    lines += _bullets("Evidence", proof + [f"`{test}`" for test in e["tests"]])
    lines += ["## Notes", "", e["notes"], ""] if e["notes"] else []
    return "\n".join([*lines, "## Try it", "", *_commands(method)]).rstrip() + "\n"


def pages() -> dict[Path, str]:
    """Every generated page by its path under docs/methods."""
    method_pages = {Path("reference") / f"{m.name}.md": page(m) for m in METHODS.values()}
    return {Path("reference.md"): index(), **method_pages}


def _paper(paper: str) -> str:
    return f"[{paper}](https://arxiv.org/abs/{paper})" if paper else ""


def _choices(e: Entry) -> list[str]:
    rounds = f"{e['rounds']} round{'s' if e['rounds'] > 1 else ''}"
    rows = [
        ("players", sourced(e["players"], e["players_source"])),
        ("oracle, pairing", sourced(f"{e['oracle']}; {e['pairing']}", e["pairing_source"])),
        ("objective", f"`{e['catalogued'] or e['objective']}`; {anchors(e)}"),
        ("update", f"{e['update']}; {rounds}"),
        ("taxonomy", "; ".join(f"{axis} {value}" for axis, value in e["axes"].items())),
    ]
    return _table(("axis", "choice"), rows)


def _defaults(method: Method, e: Entry) -> list[str]:
    """One row per parameter and setting, and further settings of the playground's runs."""
    small = {name.split(".")[-1]: v for name, v in method.playground.items() if name.startswith("objective.")}
    rows = []
    for name, default in e["defaults"].items():
        weight = " (the KL weight)" if name == method.kl_weight else ""
        elsewhere = (method.exact.get(name, ""), small.get(name, ""))
        rows.append((f"`{name}`{weight}", short(default), e["sources"][name], *map(short, elsewhere)))
    rest = ", ".join(
        f"`{name}={short(value)}`"
        for name, value in method.playground.items()
        if not name.startswith("objective.") and value != TINY.get(name)
    )
    lines = _table(("name", "default", "its source", "exact games", "playground"), rows)
    return lines + ([f"On the playground also: {rest}.", ""] if rest else [])


def _bullets(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {words}" for words in lines or ["none recorded"]), ""]


def _commands(method: Method) -> list[str]:
    """Commands that run it, and the reason if an exact game cannot."""
    play, why = f"equipoise play --game {GAME} --method {method.name}", _refused(method)
    lines = [] if why else [f"{play} --rounds 100"]
    if method.closed_form is not None and not _refused(method, exact=False):
        lines.append(f"{play} --rounds 5 --gradient")
    lines = ["```", *lines, f"equipoise align {method.name}", "```", ""]
    return [*lines, *([f"Exact games refuse it: {why}.", ""] if why else [])]


def _refused(method: Method, exact: bool | None = None) -> str:
    try:
        play_game(zoo.parse(GAME), method.with_parameters(dict(method.exact)), rounds=1, exact=exact)
    except (ValueError, NotConverged) as error:
        return str(error)
    return ""


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return [
        *lines,
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
        "",
    ]


def write(docs: Path = DOCS, guide_file: Path = stored.FILE) -> None:
    """Write the guide and every page, and remove the pages of deleted methods."""
    guide_file.write_text(guide(), encoding="utf-8")
    current = pages()
    for old in docs.glob("reference/*.md"):
        if old.relative_to(docs) not in current:
            old.unlink()
    for path, text in current.items():
        (docs / path).parent.mkdir(parents=True, exist_ok=True)
        (docs / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
