"""`equipoise oracle ...`: look at an oracle before it is trained against."""

from __future__ import annotations

import typer

from equipoise.cli.oracle_check import check

app = typer.Typer(no_args_is_help=True, help="Check an oracle before it is trained against.")
app.command()(check)
