"""The command line's program: commands, options with several values, and error messages.

Each command stands in a file of its group and imports what it needs when it is called, so that `equipoise --help` and
the lists start without PyTorch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from typing import Annotated

import typer

from equipoise import __version__
from equipoise.cli import claims, config, label, methods
from equipoise.cli.control.commands import elicit, pareto
from equipoise.cli.data import commands as data
from equipoise.cli.env import env
from equipoise.cli.evaluation.chat import chat
from equipoise.cli.evaluation.diagnose import diagnose
from equipoise.cli.evaluation.evaluate import evaluate
from equipoise.cli.evaluation.optimize_prompt import optimize_prompt
from equipoise.cli.evaluation.sample import sample
from equipoise.cli.failures import explains_itself, keep_traceback, message_of
from equipoise.cli.games.commands import game, play
from equipoise.cli.init import init
from equipoise.cli.looked_for import Commands
from equipoise.cli.oracle import commands as oracle
from equipoise.cli.safe_stream import safe_output
from equipoise.cli.training.align import align
from equipoise.cli.training.compare import compare
from equipoise.cli.training.demo import demo
from equipoise.cli.training.export import export, push
from equipoise.cli.training.launch import CONTEXT, launch
from equipoise.cli.training.plan import plan
from equipoise.cli.training.report import report
from equipoise.cli.training.runs import runs

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Align language models with preferences by games, with evidence.",
)
for command in (
    align,
    plan,
    compare,
    evaluate,
    diagnose,
    sample,
    optimize_prompt,
    chat,
    play,
    game,
    pareto,
    elicit,
    methods.methods,
    methods.explain,
    claims.claims,
    report,
    runs,
    export,
    push,
    demo,
    init,
    env,
):
    app.command()(command)
app.command(context_settings=CONTEXT)(launch)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.add_typer(oracle.app, name="oracle")
app.add_typer(label.app, name="label")

LIBRARIES = r"(transformers|peft|accelerate|torch)\."  # modules whose deprecations are not shown
# commands that continue what they were stopped in
RESUMES = ("align", "demo", "evaluate", "label", "launch", "optimize-prompt", "sample")


def _version(asked: bool) -> None:
    if asked:
        print(f"equipoise {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="print the version and exit")
    ] = False,
) -> None:
    """Align language models with preferences by games, with evidence."""


SEVERAL = (
    "--set",
    "--method",
    "--against",
    "--mapping",
    "--sweep",
)  # options that take several values at a time
ASSIGNED = ("--set", "--mapping")  # those whose values are all NAME=VALUE


def spread(arguments: list[str]) -> list[str]:
    """Let `--set a=1 b=2`, `--method x y` and `--against x y` take several values: repeat the option before each.

    An option without a value stays, and is refused.
    """
    spread_out: list[str] = []
    option, bare = "", False
    for argument in arguments:
        if argument in SEVERAL:
            spread_out += [option] if bare else []
            option, bare = argument, True
        elif option and not argument.startswith("-") and (bare or option not in ASSIGNED or "=" in argument):
            spread_out += [option, argument]
            bare = False
        else:
            spread_out += [option, argument] if bare else [argument]
            option, bare = "", False
    return spread_out + ([option] if bare else [])


class Terminated(BaseException):
    """The process was asked to end (SIGTERM). Not an Exception: nothing that recovers from errors may catch it."""


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 a fault, 2 refused with one message, 130 interrupted, 143 terminated."""
    # the library's bars for files and weights would cut the command's own lines; read when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if main_thread else None
    try:
        with safe_output(), warnings.catch_warnings():
            # what a library will rename in its next version is no business of who runs a command
            warnings.filterwarnings("ignore", category=FutureWarning, module=LIBRARIES)
            run(spread(sys.argv[1:] if arguments is None else arguments))
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)


def _stopped(given: list[str]) -> str:
    command = next((a for a in given if not a.startswith("-")), "")
    return "stopped; the same command resumes" if command in RESUMES else "stopped"


def run(given: list[str]) -> None:
    """Run a command whose options are spread out, and end with its exit code."""
    try:
        app([a for a in given if a != "--traceback"])
    except SystemExit as end:
        if end.code == 130:
            print(_stopped(given), file=sys.stderr)
        raise
    except Terminated:
        print(_stopped(given), file=sys.stderr)
        raise SystemExit(143) from None
    except Exception as error:  # noqa: BLE001 - a fault ends with one line as well
        expected = explains_itself(error)
        if "--traceback" in given:
            traceback.print_exception(error)
        else:
            print(f"error: {message_of(error) if expected else keep_traceback(error)}", file=sys.stderr)
        raise SystemExit(2 if expected else 1) from None


if __name__ == "__main__":
    main()
