"""What the commands do beyond one call: exact games and the guide to methods, as data and as tables."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equipoise.config import ConfigError, resolve
from equipoise.data.inspect import Report, check
from equipoise.games import zoo
from equipoise.games.load import load_game
from equipoise.games.preference import PreferenceGame
from equipoise.methods.index import METHODS, describe, get
from equipoise.play.method import Method
from equipoise.play.table import equilibrium, play_game

SHOWN_ROUNDS = 12


def game_of(spec: str) -> PreferenceGame:
    """A game file if it looks like one, else a game of the zoo."""
    return load_game(spec) if Path(spec).suffix in (".json", ".npz") else zoo.parse(spec)


def play(
    game_spec: str, names: Sequence[str], rounds: int, settings: Mapping[str, Any], exact: bool | None
) -> dict[str, Any]:
    """Play methods on one game; the object that `equipoise play --json` prints.

    A setting goes to every method that has a parameter of that name; one that no method has is an error. `tau`
    is also the KL weight of the reported gap: as set, or the first method's own.
    """
    game = game_of(game_spec)
    methods = [get(name) for name in names]
    for name in settings:
        if name != "tau" and not any(name in m.parameters() for m in methods):
            known = ", ".join(sorted({p for m in methods for p in m.parameters()}))
            raise ConfigError(f"none of {', '.join(names)} has a parameter {name!r} (known: {known})")
    configured = [_configured(method, settings) for method in methods]
    own = [m.parameters().get("tau") for m in configured]
    tau = settings.get("tau", next((t for t in own if t), None))
    if tau is not None and not isinstance(tau, int | float):
        raise ConfigError(f"tau must be a number, got {tau!r}")
    return {
        "game": game_spec,
        "tau": tau,
        "names": list(game.names[0]),
        "nash": equilibrium(game, tau).probs().tolist(),
        "methods": {m.name: play_game(game, m, rounds=rounds, exact=exact, tau=tau) for m in configured},
    }


def _configured(method: Method, settings: Mapping[str, Any]) -> Method:
    known = method.parameters()
    return method.with_parameters(
        dict(method.exact) | {name: value for name, value in settings.items() if name in known}
    )


def check_data(files: Sequence[str], model: str | None, settings: Mapping[str, Any]) -> Report:
    """`equipoise data check`: the files read with the settings that a run would take."""
    named = {f"data.{name.removeprefix('data.')}": value for name, value in settings.items()}
    data = resolve("dpo", named).data
    taken = {name.removeprefix("data."): getattr(data, name.removeprefix("data.")) for name in named}
    unused = sorted(taken.keys() - inspect.signature(check).parameters.keys())
    if unused:
        raise ConfigError(f"data check makes no use of {', '.join(unused)}")
    return check(files, model=model, **taken)


def print_play(result: Mapping[str, Any], console: Console) -> None:
    for name, trace in result["methods"].items():
        table = Table(title=f"{name} on {escape(result['game'])}", title_justify="left")
        for column in ("round", "gap0", "gap_tau", "KL(Nash || policy)"):
            table.add_column(column, justify="right")
        count = len(trace["round"])
        step = max(1, -(-count // SHOWN_ROUNDS))
        for i in sorted({*range(0, count, step), count - 1}):
            figures = [trace[key][i] for key in ("gap0", "gap_tau", "kl_to_nash")]
            table.add_row(str(trace["round"][i]), *["-" if f is None else f"{f:.6g}" for f in figures])
        console.print(table)
        for prompt, (policy, average) in enumerate(
            zip(trace["policy"], trace["average_policy"], strict=True)
        ):
            console.print(f"  prompt {prompt}   policy  {_strategy(policy)}", highlight=False)
            console.print(f"  prompt {prompt}   average {_strategy(average)}", highlight=False)


def _strategy(probs: Sequence[float]) -> str:
    return " ".join(f"{p:.6f}" for p in probs)


def print_methods(console: Console) -> None:
    table = Table()
    for column in ("name", "title", "paper", "needs", "players", "formula", "status"):
        table.add_column(column)
    for method in METHODS.values():
        d = describe(method)
        table.add_row(
            *[
                escape(str(d[k]))
                for k in ("name", "title", "paper", "needs", "players", "confidence", "status")
            ]
        )
    console.print(table)


def print_method(method: Method, console: Console) -> None:
    for key, value in describe(method).items():
        console.print(f"[bold]{key:<11}[/bold] {escape(str(value))}", highlight=False)
    console.print(f"\n{escape(inspect.getdoc(type(method.objective)) or '')}", highlight=False)
