"""The command line's program: commands, options with several values, and error messages.

Each command stands in a file of its group and imports what it needs when it is called, so that `equipoise --help` and
the lists start without PyTorch.
"""

from __future__ import annotations

import io
import signal
import sys
import threading

import typer

from equipoise.cli import align, claims, compare, data, demo, games, methods, plan, reports

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Align language models with preferences by games, with evidence.",
)
for command in (
    align.align,
    plan.plan,
    compare.compare,
    games.play,
    games.game,
    methods.methods,
    methods.explain,
    claims.claims,
    reports.report,
    demo.demo,
):
    app.command()(command)
app.add_typer(data.app, name="data")

STOPPED = "stopped; the same command resumes"
SEVERAL = ("--set", "--method", "--against")  # options that take several values at a time


def spread(arguments: list[str]) -> list[str]:
    """Let `--set a=1 b=2`, `--method x y` and `--against x y` take several values: repeat the option before each."""
    spread_out: list[str] = []
    option = ""
    for argument in arguments:
        if argument in SEVERAL:
            option = argument
        elif option and not argument.startswith("-") and (option != "--set" or "=" in argument):
            spread_out += [option, argument]
        else:
            option = ""
            spread_out.append(argument)
    return spread_out


def explains_itself(error: Exception) -> bool:
    """Whether an error is an expected one, whose message says what went wrong: it is printed without a traceback."""
    if isinstance(error, ValueError | KeyError | OSError):
        return True
    from equipoise.games.fit import NotConverged
    from equipoise.worlds.text.errors import TrainingError

    return isinstance(error, NotConverged | TrainingError)


class Terminated(BaseException):
    """The process was asked to end (SIGTERM). Not an Exception: nothing that recovers from errors may catch it."""


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def _print_anything() -> None:
    """Characters that the terminal cannot encode become question marks, instead of ending a finished command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 2 refused with one message, 130 interrupted, 143 terminated."""
    given = spread(sys.argv[1:] if arguments is None else arguments)
    _print_anything()
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if main_thread else None
    try:
        app([a for a in given if a != "--traceback"])
    except SystemExit as end:
        if end.code == 130:
            print(STOPPED, file=sys.stderr)
        raise
    except Terminated:
        print(STOPPED, file=sys.stderr)
        raise SystemExit(143) from None
    except Exception as error:
        if "--traceback" in given or not explains_itself(error):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
