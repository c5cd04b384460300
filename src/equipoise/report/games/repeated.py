"""Regret of a language model in a repeated game: printed, and as a curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equipoise.policy.files import whole
from equipoise.report.labels import label
from equipoise.report.style import BLUE, FAINT, panels, render, styled
from equipoise.safe_text import printable

SHOWN_ROUNDS = 8
SHOWN_TEXT = 60  # characters of an answer


def print_repeated(result: Mapping[str, Any], console: Console) -> None:
    """The regret at a few rounds, its tests, and what could not be read."""

    def say(text: str) -> None:
        console.print(escape(text), highlight=False, emoji=False)

    runs, rounds = result["runs"], result["rounds"]
    say(
        f"{printable(result['player'], most=SHOWN_TEXT)} on {printable(result['game'], most=SHOWN_TEXT)} against "
        f"{result['adversary']}: {runs} runs of {rounds} rounds"
    )
    console.print(_by_round(result["regret"]))
    end = result["regret_at_end"]
    between = "" if end["low"] is None else f" [{end['low']:.2f}, {end['high']:.2f}]"
    beside = ", ".join(f"{name} {value:.2f}" for name, value in result["beside"].items())
    say(f"regret at the end   {end['value']:.2f}{between}; on the same losses {beside}")
    trend, growth = result["trend"], result["growth"]
    say(
        f"trend test          Reg_t/t falls: p = {trend['p_value']:.2g} (mean), "
        f"p < 0.05 in {trend['runs_falling']} of {runs} runs"
    )
    if growth["power"] is None:
        say("regression test     regret is positive in fewer than three rounds: no power is fitted")
    else:
        say(
            f"regression test     Reg_t grows as t^{growth['power']:.2f}; below 1: p = {growth['p_value']:.2g} (mean), "
            f"p < 0.05 in {growth['runs_sublinear']} of {runs} runs"
        )
    play = ", ".join(
        f"{label(name, 16)} {p:.2f}"
        for name, p in zip(result["game_actions"], result["average_play"], strict=True)
    )
    say(f"average play        {play}; its gap in the game {result['gap_of_average_play']:.3f}")
    if result["unparsed"]:
        shown = ", ".join(repr(printable(one, most=SHOWN_TEXT)) for one in result["unparsed_examples"])
        say(
            f"unreadable          {result['unparsed']:,} of {result['answers']:,} answers name no single action and "
            f"count as the uniform play: {shown}"
        )


def _by_round(regret: list[float]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    at = np.unique(np.geomspace(1, len(regret), SHOWN_ROUNDS).round().astype(int))
    table.add_column("round", no_wrap=True)
    for t in at:
        table.add_column(str(t), justify="right")
    table.add_row("regret", *(f"{regret[t - 1]:.2f}" for t in at))
    table.add_row("per round", *(f"{regret[t - 1] / t:.3f}" for t in at))
    return table


def write_regret_figure(result: Mapping[str, Any], path: Path) -> None:
    """Draw the regret by round of every run, and their mean, to a PNG, written whole or not at all."""
    with styled():
        figure, axes = panels(1, height=3.2)
        t = np.arange(1, result["rounds"] + 1)
        for run in result["regret_by_run"]:
            axes[0].plot(t, run, color=FAINT, linewidth=0.8)
        axes[0].plot(t, result["regret"], color=BLUE, linewidth=1.8)
        axes[0].set_xlabel("round")
        axes[0].set_ylabel("regret")
        axes[0].set_title(f"{label(result['player'])} against {result['adversary']}", loc="left", fontsize=10)
        image = render(figure)
    with whole(Path(path)) as draft:
        draft.write_bytes(image)
