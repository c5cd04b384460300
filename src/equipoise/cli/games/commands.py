"""`equipoise play` and `equipoise game`: play methods on exact games, and analyse preference games."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Json, Settings, show


def play(
    game: Annotated[
        str,
        typer.Option(
            help="a zoo game (rps, brps, random:10, 64 at once: random:10:0x64) or a .json/.npz file"
        ),
    ],
    method: Annotated[list[str], typer.Option(help="see `equipoise methods` (several at a time; or all)")],
    rounds: Annotated[int, typer.Option(min=0, help="rounds to play")] = 100,
    set: Settings = None,
    exact: Annotated[bool, typer.Option("--exact", help="take the method's closed-form step")] = False,
    gradient: Annotated[
        bool, typer.Option("--gradient", help="minimise the same objective that language models train on")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="plot the gap by round to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Play methods on an exact game, or on a batch of them: gaps, distance to the equilibrium, final policies."""
    from equipoise.cli.games.play import play as played
    from equipoise.report.games.play_text import print_play
    from equipoise.run.config import parse_settings

    if exact and gradient:
        raise ValueError("--exact and --gradient exclude each other")
    step = True if exact else False if gradient else None
    result = played(game, method, rounds, parse_settings(set or []), step)
    if plot:
        from equipoise.report.games.figure import write_game_figure

        write_game_figure(result, plot)
    show(result, as_json, print_play, picture=plot)


def game(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="a .json or .npz file, or a zoo game (brps, ...)")
    ],
    part: Annotated[
        str | None, typer.Option(help="one prompt, season or table of a file that holds several")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="resamples of the prompts, for intervals")] = 0,
    seed: Annotated[int, typer.Option(help="seed of the resamples")] = 0,
    plot: Annotated[Path | None, typer.Option(help="plot the preference matrix to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Analyse a preference game: cycles, the best reward model and its error, Nash policies."""
    from equipoise.report.games.analysis import game_report
    from equipoise.report.games.text import print_game

    result = game_report(source, part, bootstrap, seed)
    if plot:
        from equipoise.report.games.picture import write_game_picture

        write_game_picture(result, plot)
    show(result, as_json, print_game, picture=plot)
