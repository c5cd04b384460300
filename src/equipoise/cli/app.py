"""The command line: parses, calls, prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Align language models with preferences by games, with evidence.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at preference data before training on it.")
app.add_typer(data_app, name="data")

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE ...", help="settings by dotted or short name, several at a time"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]


@app.command()
def align(
    method: Annotated[str, typer.Argument(help="see `equipoise methods`")],
    model: Annotated[str | None, typer.Option(help="checkpoint folder or hub name")] = None,
    data: Annotated[list[str] | None, typer.Option(help="file of pairs or prompts (repeatable)")] = None,
    oracle: Annotated[
        str | None, typer.Option(help="module:function, file.py:function, or a reward model's folder")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds of the game")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; an existing one is resumed")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of everything random")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings")] = None,
    set: Settings = None,
) -> None:
    """Align a language model; without model and data, the built-in language game is played."""
    from equipoise.run.config import parse_settings
    from equipoise.run.session import align as call

    run = call(
        method,
        model=model,
        data=list(data) if data else None,
        oracle=oracle,
        rounds=rounds,
        out=out,
        seed=seed,
        config=config,
        settings=parse_settings(set or []),
    )
    from equipoise.report.compare import compare, print_table

    print_table(compare([run.folder]))
    print(f"report   {run.report}\nmodel    {run.checkpoint}")


@app.command()
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
    exact: Annotated[bool, typer.Option("--exact", help="the method's closed-form step")] = False,
    gradient: Annotated[
        bool, typer.Option("--gradient", help="minimise the objective that language models train on")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="draw gap against round to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Play methods on an exact game, or on a batch of them: gaps, distance to the equilibrium, final policies."""
    from equipoise.cli import exact_games as commands
    from equipoise.run.config import parse_settings

    if exact and gradient:
        raise ValueError("--exact and --gradient exclude each other")
    result = commands.play(
        game, method, rounds, parse_settings(set or []), exact or (False if gradient else None)
    )
    if plot:
        from equipoise.report.games import write_game_figure

        write_game_figure(result, plot)
    if as_json:
        print(json.dumps(result))
    else:
        from equipoise.report.play_text import print_play

        print_play(result, Console())
        if plot:
            print(f"picture  {plot}")


@app.command()
def game(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="a .json or .npz file, or a zoo game (brps, ...)")
    ],
    part: Annotated[
        str | None, typer.Option(help="one prompt, season or table of a file that holds several")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="resamples of the prompts, for intervals")] = 0,
    seed: Annotated[int, typer.Option(help="seed of the resamples")] = 0,
    plot: Annotated[Path | None, typer.Option(help="draw who beats whom to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Analyse who beats whom: cycles, the best reward model and its error, Nash policies."""
    from equipoise.report.game import game_report
    from equipoise.report.game_picture import write_game_picture
    from equipoise.report.game_text import print_game

    found = game_report(source, part, bootstrap, seed)
    if plot:
        write_game_picture(found, plot)
    if as_json:
        print(json.dumps(found))
    else:
        print_game(found, Console())
        if plot:
            print(f"picture  {plot}")


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="one method, in full")] = None,
    need: Annotated[
        str | None, typer.Option(help="only what needs pairs, unary, lists, scores or online")
    ] = None,
    reference_free: Annotated[
        bool, typer.Option("--reference-free", help="only what reads no frozen policy")
    ] = False,
    as_json: Json = False,
) -> None:
    """The guide: the methods by what they need, or one: choices, formula, defaults and their sources, limits, proof."""
    from equipoise.methods.index import get
    from equipoise.report.guide import chosen, entry
    from equipoise.report.methods import print_method, print_methods

    found = [get(name)] if name else chosen(need, reference_free)
    if as_json:
        listed = [entry(m) for m in found]
        print(json.dumps(listed[0] if name else listed))
    elif name:
        print_method(found[0], Console())
    else:
        print_methods(found, Console())


@app.command()
def explain(
    what: Annotated[
        str, typer.Argument(metavar="NAME|FORMULA", help="a loss, a formula as 'M(l) -> M(w)', or all")
    ],
    given: Annotated[str | None, typer.Option(help="for a formula: where it is judged")] = None,
    also: Annotated[str | None, typer.Option(help="for a formula: what counts as won and as lost")] = None,
    against: Annotated[list[str] | None, typer.Option(help="compare with these only")] = None,
    plot: Annotated[Path | None, typer.Option(help="draw which losses are stronger to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Say what a loss wants: formula, truth table, gradient, blind spots, and which losses are stronger."""
    from equipoise.report import semantics
    from equipoise.report.semantics_text import print_everything, print_explained

    every = what == semantics.EVERY
    if every and (given or also or against):
        raise ValueError("all losses are compared with all: --given, --also and --against go with one")
    found = semantics.everything() if every else semantics.explain(what, given, also, against or ())
    if plot:
        from equipoise.report.semantics_picture import write_landscape

        write_landscape(semantics.landscape(None if every else found), plot)
    if as_json:
        print(json.dumps(found))
    else:
        (print_everything if every else print_explained)(found, Console())
        if plot:
            print(f"picture  {plot}")


@app.command()
def claims(
    name: Annotated[str | None, typer.Argument(help="run one claim")] = None,
    scale: Annotated[Literal["quick", "full"], typer.Option(help="seconds or minutes")] = "quick",
    out: Annotated[Path | None, typer.Option(help="folder for the figures and the evidence")] = None,
) -> None:
    """List what the papers claim, or run one claim's program and print its evidence."""
    from equipoise.report.claims import print_claims, print_evidence, run_claim

    if name is None:
        print_claims(Console())
    else:
        print_evidence(run_claim(name, scale, out), Console())


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="a run folder")]) -> None:
    """Write report.html of a run folder again."""
    from equipoise.report.page import write_report

    print(write_report(folder))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for the three runs")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="seed of everything random")] = 0,
) -> None:
    """Align the built-in model with DPO, SPAC and INPO and compare them; a few minutes on two cores."""
    from equipoise.report.compare import compare, print_table, write_comparison
    from equipoise.run.session import align as call

    runs = [call(name, out=out / name, seed=seed).folder for name in ("dpo", "spac", "inpo")]
    print_table(compare(runs))
    page = write_comparison(runs, out / "comparison.html")
    print(f"comparison  {page}")
    for folder in runs:
        print(f"report      {folder / 'report.html'}")


@data_app.command("check")
def data_check(
    file: Annotated[list[str], typer.Argument(help="data files")],
    model: Annotated[
        str | None, typer.Option(help="show tokens as this model's tokenizer makes them")
    ] = None,
    set: Settings = None,
    as_json: Json = False,
) -> None:
    """Read data as a run would: the ledger, and with a model which tokens are scored."""
    from equipoise.cli import exact_games as commands
    from equipoise.data.report import check_json, print_check
    from equipoise.run.config import parse_settings

    found = commands.check_data(file, model, parse_settings(set or []))
    if as_json:
        print(json.dumps(check_json(found)))
    else:
        print_check(found, Console())


def spread(arguments: list[str]) -> list[str]:
    """Let `--set a=1 b=2`, `--method x y` and `--against x y` take several values: repeat the option before each."""
    spread_out: list[str] = []
    option: str | None = None
    for argument in arguments:
        if argument in ("--set", "--method", "--against"):
            option = argument
            continue
        takes = option is not None and not argument.startswith("-")
        if takes and (option != "--set" or "=" in argument):
            spread_out += [option, argument]  # type: ignore[list-item]
            continue
        option = None
        spread_out.append(argument)
    return spread_out


def expected_errors() -> tuple[type[BaseException], ...]:
    """Errors that say themselves what went wrong: printed as one message, without a traceback."""
    from equipoise.games.fit import NotConverged
    from equipoise.worlds.text.errors import TrainingError

    return (ValueError, KeyError, TrainingError, NotConverged, OSError)


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 2 refused with one message, 130 interrupted."""
    given = spread(sys.argv[1:] if arguments is None else arguments)
    try:
        app([a for a in given if a != "--traceback"])
    except SystemExit as end:
        if end.code == 130:
            print("stopped; the same command resumes", file=sys.stderr)
        raise
    except Exception as error:
        if "--traceback" in given or not isinstance(error, expected_errors()):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
