"""What `equipoise play` prints: one method round by round, or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from equipoise.report.labels import label

SHOWN_ROUNDS = 12
FEW_PROMPTS = 8  # policies of more prompts are not printed: figures over all prompts are
FEW_RESPONSES = 12  # of more responses the likeliest are printed, by name


def print_play(result: Mapping[str, Any], console: Console) -> None:
    """Gaps by round, then the policies of a few prompts or the spread over the prompts of many."""
    methods, nash = result["methods"], result["nash"]
    weight = f"tau {result['tau']:g}" if result["tau"] else "the plain game"
    many = f", {len(nash)} prompts" if len(nash) > 1 else ""
    heading = f"{', '.join(methods) if len(methods) == 1 else f'{len(methods)} methods'} on {result['game']}"
    console.print(escape(f"{heading} ({weight}{many})"), highlight=False, emoji=False)
    console.print(by_round(*methods.values()) if len(methods) == 1 else side_by_side(methods))
    if len(nash) > FEW_PROMPTS:
        console.print(over_prompts(methods))
    else:
        for x in range(len(nash)):
            _print_policies(x, result, console)
    for name, trace in methods.items():
        if trace.get("tau") not in (None, result["tau"]):
            console.print(f"{escape(name)} plays at another KL weight, {trace['tau']:g}", highlight=False)
    for name, reason in result["errors"].items():
        console.print(escape(f"{name} was not played: {reason}"), highlight=False, emoji=False)


def by_round(trace: Mapping[str, Any]) -> Table:
    """One method: every figure at about twelve rounds."""
    table = _table("round", "gap0", "gap_tau", "KL(Nash || policy)")
    count = len(trace["round"])
    step = max(1, -(-count // SHOWN_ROUNDS))
    for i in sorted({*range(0, count, step), count - 1}):
        figures = [trace[key][i] for key in ("gap0", "gap_tau", "kl_to_nash")]
        table.add_row(str(trace["round"][i]), *["-" if f is None else f"{f:.6g}" for f in figures])
    return table


def side_by_side(methods: Mapping[str, Mapping[str, Any]]) -> Group:
    """Several methods: the gap that the run is about after 0, 1, 10, ... rounds, and how it ended."""
    rounds = next(iter(methods.values()))["round"]
    powers = [0, *(10**k for k in range(len(str(rounds[-1]))))]
    at = sorted({int(np.abs(np.subtract(rounds, r)).argmin()) for r in (*powers, rounds[-1])})
    gap = main_gap(methods)
    ends = {"gap0": "gap0", "kl_to_nash": "KL(Nash)"} if gap == "gap_tau" else {"kl_to_nash": "KL(Nash)"}
    table = _table("method", *(str(rounds[i]) for i in at), *ends.values())
    for name, trace in methods.items():
        table.add_row(name, *(_short(trace[gap][i]) for i in at), *(_short(trace[key][-1]) for key in ends))
    return Group(f"{gap} by number of rounds; {' and '.join(ends.values())} after the last", table)


def over_prompts(methods: Mapping[str, Mapping[str, Any]]) -> Group:
    """The last round, prompt by prompt: least, median and largest gap and distance."""
    gap, distance = main_gap(methods), "kl_to_nash"
    prompts = len(next(iter(methods.values()))["by_prompt"][gap])
    table = _table("method", *("min", "median", "max") * 2)
    for name, trace in methods.items():
        figures: list[float] = []
        for key in (gap, distance):
            known = [np.inf if v is None else v for v in trace["by_prompt"][key]]
            figures += [float(f(known)) for f in (np.min, np.median, np.max)]
        table.add_row(name, *map(_short, figures))
    return Group(f"the last round over {prompts} prompts: {gap}, then KL(Nash)", table)


def main_gap(methods: Mapping[str, Mapping[str, Any]]) -> str:
    """The regularised gap where it was measured, else the plain one."""
    return "gap_tau" if any(trace["gap_tau"][0] is not None for trace in methods.values()) else "gap0"


def _print_policies(x: int, result: Mapping[str, Any], console: Console) -> None:
    one = len(result["nash"]) == 1  # of several prompts only the first one's names are known
    names = result["names"] if one else [str(y) for y in range(len(result["names"]))]
    lines = {"Nash": result["nash"][x]}
    for name, trace in result["methods"].items():
        if len(result["methods"]) == 1:
            lines |= {"policy": trace["policy"][x], "average": trace["average_policy"][x]}
        else:
            lines[name] = trace["policy"][x]
    width = max(map(len, lines))
    for name, probs in lines.items():
        line = f"{'' if one else f'  prompt {x} '}  {name:<{width}} {_strategy(probs, names)}"
        console.print(escape(line), highlight=False, emoji=False)


def _strategy(probs: Sequence[float], names: Sequence[str]) -> str:
    if len(probs) <= FEW_RESPONSES:
        return " ".join(f"{p:.6f}" for p in probs)
    likeliest = np.argsort(probs)[::-1][: FEW_RESPONSES // 2]
    return ", ".join(f"{label(names[y], 16)} {probs[y]:.4f}" for y in likeliest) + ", ..."


def _table(first: str, *figures: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in figures:
        table.add_column(column, justify="right")
    return table


def _short(figure: float | None) -> str:
    return "-" if figure is None or not np.isfinite(figure) else f"{figure:.2g}"
