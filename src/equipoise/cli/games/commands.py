"""`equipoise play` and `equipoise game`: play methods on exact games, and analyse preference games."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.evaluation.options import MaxNewTokens, SamplingSeed, Temperature
from equipoise.cli.options import Json, Settings, show


def play(
    game: Annotated[
        str,
        typer.Option(
            help="a zoo game (rps, brps, random:10, 64 at once: random:10:0x64), a .json/.npz file, or mdp: learners "
            "on random adversarial MDPs (mdp:STATESxACTIONSxDIMENSIONxSTEPS), --rounds their episodes"
        ),
    ],
    method: Annotated[
        list[str] | None, typer.Option(help="see `equipoise methods` (several at a time; or all)")
    ] = None,
    player: Annotated[
        str | None,
        typer.Option(
            help="instead of methods, a language model plays the game round after round through a prompt: a model, "
            "adapter or run folder, a hub name, or a server's YAML file"
        ),
    ] = None,
    adversary: Annotated[
        str | None,
        typer.Option(
            help="of --player: random (the default), periodic, best-response, alternating (losses on which leaders "
            "lose) or self-play; of an mdp: planted (the default) or blocks"
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="of --player: independent runs; of an mdp: random MDPs")
    ] = 5,
    memory: Annotated[
        int | None, typer.Option(min=0, help="of --player: rounds that its prompt lists; none given: all")
    ] = None,
    prompt: Annotated[
        Path | None,
        typer.Option(help="of --player: Jinja template of the prompt, in place of the built-in one"),
    ] = None,
    temperature: Temperature = 1.0,
    max_new_tokens: MaxNewTokens = 16,
    seed: SamplingSeed = 0,
    transcript: Annotated[
        Path | None,
        typer.Option(help="of --player: file of its answers; the same command goes on where it was stopped"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="rounds to play")] = 100,
    set: Settings = None,
    exact: Annotated[bool, typer.Option("--exact", help="take the method's closed-form step")] = False,
    gradient: Annotated[
        bool, typer.Option("--gradient", help="minimise the same objective that language models train on")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="plot the gap by round to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Play methods on an exact game, or on a batch of them: gaps, distance to the equilibrium, final policies.

    With --player a language model plays it repeatedly against an adversary: its regret, and whether that vanishes.
    With --game mdp, policy optimisation plays adversarial MDPs: its regret with known transitions and from own paths.
    """
    if game.partition(":")[0] == "mdp":
        from equipoise.cli.games.mdp import play_mdp, sizes_of
        from equipoise.report.games.mdp import print_mdp, write_mdp_figure

        if (
            method
            or player
            or set
            or exact
            or gradient
            or any(x is not None for x in (memory, prompt, transcript))
        ):
            raise ValueError(
                "an mdp is played by its own learners: it takes --adversary, --rounds, --repeats, --seed"
            )
        regret = play_mdp(sizes_of(game), adversary, rounds, repeats, seed)
        if plot:
            write_mdp_figure(regret, plot)
        show(regret, as_json, print_mdp, picture=plot)
        return
    if (player is None) == (not method):
        raise ValueError(
            "give either --method NAME, a method to play, or --player MODEL, a language model that plays"
        )
    if player is not None:
        from equipoise.cli.games.repeated import play_player
        from equipoise.report.games.repeated import print_repeated, write_regret_figure

        if set or exact or gradient:
            raise ValueError("--set, --exact and --gradient are of methods; --player has none of them")
        found = play_player(
            player,
            game,
            {
                "adversary": adversary or "random",
                "rounds": rounds,
                "repeats": repeats,
                "memory": memory,
                "seed": seed,
            },
            {"temperature": temperature, "max_new_tokens": max_new_tokens},
            prompt,
            transcript,
        )
        if plot:
            write_regret_figure(found, plot)
        show(found, as_json, print_repeated, picture=plot)
        return
    if any(given is not None for given in (memory, prompt, transcript)):
        raise ValueError("--memory, --prompt and --transcript are of --player")
    from equipoise.cli.games.play import play as played
    from equipoise.report.games.play_text import print_play
    from equipoise.run.config import parse_settings

    if exact and gradient:
        raise ValueError("--exact and --gradient exclude each other")
    step = True if exact else False if gradient else None
    result = played(game, method or [], rounds, parse_settings(set or []), step)
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
