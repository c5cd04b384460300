"""`equipoise align`: train a language model with one method."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Allow, Config, Data, Model, Oracle, Rounds, RunSeed, Settings


def align(
    method: Annotated[
        str | None, typer.Argument(help="see `equipoise methods`; may stand in the file of --config")
    ] = None,
    model: Model = None,
    data: Data = None,
    oracle: Oracle = None,
    rounds: Rounds = None,
    out: Annotated[Path | None, typer.Option(help="run folder; an existing one is resumed")] = None,
    seed: RunSeed = None,
    config: Config = None,
    allow: Allow = None,
    set: Settings = None,
) -> None:
    """Align a language model; without --model and --data, play the built-in language game."""
    from equipoise.cli.loading import told

    with told():
        from equipoise.run.config import ConfigError, parse_settings, read_file
        from equipoise.run.screen.verdict import print_closing
        from equipoise.run.session import align as call

    stated = method or (read_file(config).get("method") if config else None)
    if stated is None:
        raise ConfigError(
            "which method? name one (`equipoise methods` lists them), or a --config file with `method:`"
        )
    run = call(
        str(stated),
        model=model,
        data=list(data) if data else None,
        oracle=oracle,
        rounds=rounds,
        out=out,
        seed=seed,
        config=config,
        settings=parse_settings(set or []),
        allow=allow or [],
    )
    if int(os.environ.get("RANK", "0")):  # of several processes the first one reports
        return
    print_closing(run.folder)
    print(f"report   {run.report}\nmodel    {run.checkpoint}")
    best = run.summary.get("best")
    if best:
        at = f"round {best['round']}" + (f", step {best['step']}" if best["step"] else "")
        print(f"best     {run.best}  ({best['metric']} {best['value']:.4g}, {at})")
