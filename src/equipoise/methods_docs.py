"""The page of all methods, from the methods themselves: python -m equipoise.methods_docs > docs/methods/reference.md"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from equipoise.games import zoo
from equipoise.methods.index import describe
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.table import play_game
from equipoise.report.methods import CONFIDENCE, GROUPS

GAME = "brps"

INTRODUCTION = """\
# Reference of all methods

Generated from `src/equipoise/methods/` and the objectives they name; do not edit. Print it with
`python -m equipoise.methods_docs > docs/methods/reference.md`. Which one to take: [Self-play](../self_play.md).

A method is four choices: players, oracle and pairing, objective, update. Its anchors are frozen policies: "initial" is
the policy that the run began with, "start" the one at the start of the round, any other name one that the update
keeps from round to round.

Parameters are changed with `--set NAME=VALUE`. The defaults are the paper's where they are known. Exact games, whose
payoffs are win rates, and the playground, the built-in language game with its tiny model, have values of their own; an
empty cell means the default. `equipoise play` takes the closed form of a round where there is one, and with
`--gradient` minimises the objective that language models train on.

How sure we are of a formula (docstrings and notes write the last two as RECALLED and DERIVED):
"""


def markdown() -> str:
    """The whole page: a list of all methods, then each method of each group."""
    lines = [INTRODUCTION, *(f"- **{grade}**: {words}." for grade, words in CONFIDENCE.items()), ""]
    for group, methods in GROUPS.items():
        lines += [f"**{group}:** {', '.join(f'[{m.name}](#{m.name})' for m in methods)}", ""]
    shown: dict[type, str] = {}
    for group, methods in GROUPS.items():
        lines += [f"## {group}", ""]
        for method in methods:
            lines += section(method, shown)
    return "\n".join(lines).rstrip() + "\n"


def section(method: Method, shown: dict[type, str]) -> list[str]:
    """One method; `shown` is which method's section has the formula of an objective already."""
    d = describe(method)
    paper = f"[{method.paper}](https://arxiv.org/abs/{method.paper})" if method.paper else "no paper"
    status = "" if method.status == "stable" else f" Status: **{method.status}**."
    objective = type(method.objective or method.update)  # a method without a loss moves by its update alone
    lines = [f"### {method.name}", "", f"**{method.title}** ({paper}). Needs {method.needs}.{status}", ""]
    lines += _table(
        ("axis", "choice"),
        [
            ("players", d["players"]),
            ("oracle, pairing", f"{d['oracle']}; {d['pairing']}"),
            (
                "objective",
                f"`{objective.__name__}`; anchors {_anchors(method)}" if method.objective else "none",
            ),
            ("update", f"{d['update']}; {method.rounds} round{'s' if method.rounds > 1 else ''}"),
            ("formula", f"{method.confidence}: {CONFIDENCE[method.confidence]}"),
        ],
    )
    lines += _parameters(method)
    if method.notes:
        lines += [method.notes, ""]
    if objective in shown:
        lines += [f"The objective's formula stands at [{shown[objective]}](#{shown[objective]}).", ""]
    else:
        shown[objective] = method.name
        lines += ["```text", inspect.getdoc(objective) or "", "```", ""]
    return [*lines, *_commands(method)]


def _anchors(method: Method) -> str:
    return ", ".join(f"{name} = {policy}" for name, policy in method.anchors.items())


def _parameters(method: Method) -> list[str]:
    """A row for each parameter, and what else the paper's and the playground's runs set."""
    known = method.parameters()
    exact = method.exact
    small = {name.split(".")[-1]: v for name, v in method.playground.items() if name.startswith("objective.")}
    rows = [
        (f"`{name}`{' (the KL weight)' if name == method.kl_weight else ''}", *map(_value, values))
        for name, default in known.items()
        for values in [(default, exact.get(name, ""), small.get(name, ""))]
    ]
    rest = {
        name: value
        for name, value in method.playground.items()
        if not name.startswith("objective.") and value != TINY.get(name)
    }
    lines = _table(("parameter", "default", "exact games", "playground"), rows)
    if method.train:
        lines += [f"Training: {_settings(method.train)}.", ""]
    return lines + ([f"On the playground: {_settings(rest)}.", ""] if rest else [])


def _commands(method: Method) -> list[str]:
    """How to run it; where an exact game cannot be played, why."""
    play, why = f"equipoise play --game {GAME} --method {method.name}", _refused(method)
    lines = [] if why else [f"{play} --rounds 100"]
    if method.closed_form is not None and not _refused(method, exact=False):
        lines.append(f"{play} --rounds 5 --gradient")
    lines = ["```", *lines, f"equipoise align {method.name}", "```", ""]
    return [*lines, *([f"It is not played on exact games: {why}.", ""] if why else [])]


def _refused(method: Method, exact: bool | None = None) -> str:
    try:
        play_game(zoo.parse(GAME), method.with_parameters(dict(method.exact)), rounds=1, exact=exact)
    except ValueError as error:
        return str(error)
    return ""


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return [
        *lines,
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
        "",
    ]


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={_value(value)}`" for name, value in values.items())


if __name__ == "__main__":
    print(markdown(), end="")
