"""`equipoise oracle ...`: oracles of your own, trained, and looked at before anything is trained against them."""

from __future__ import annotations

import typer

from equipoise.cli.oracle.check import check
from equipoise.cli.oracle.route import route
from equipoise.cli.oracle.train import train

app = typer.Typer(no_args_is_help=True, help="Train a reward model or preference model, and look at oracles.")
app.command()(train)
app.command()(check)
app.command()(route)
