"""`equipoise align`: train a language model, or a policy of another world, with one method."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.cli.failures import LEFT_SUPPORT
from equipoise.cli.options import Allow, Config, Data, MethodName, Model, Oracle, Rounds, RunSeed, Settings


def align(
    method: MethodName = None,
    model: Model = None,
    data: Data = None,
    oracle: Oracle = None,
    rounds: Rounds = None,
    out: Annotated[Path | None, typer.Option(help="run folder; an existing one is resumed")] = None,
    seed: RunSeed = None,
    config: Config = None,
    allow: Allow = None,
    world: Annotated[
        str | None,
        typer.Option(
            help="train in a world beyond language: pendulum, images, digits, ... (equipoise methods --worlds)"
        ),
    ] = None,
    set: Settings = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME=A,B ...",
            help="run every combination of the values, each in a subfolder, and compare them",
        ),
    ] = None,
) -> None:
    """Align a language model; without --model and --data, play the built-in language game."""
    from equipoise.cli.loading import told

    with told():
        from equipoise.run.config import method_name, parse_settings
        from equipoise.run.screen.verdict import print_closing
        from equipoise.run.session import align as call

    stated = method_name(method, config)
    settings = parse_settings(set or [])
    given: dict[str, Any] = {
        "model": model,
        "data": list(data) if data else None,
        "oracle": oracle,
        "rounds": rounds,
        "seed": seed,
        "config": config,
        "allow": allow or [],
    }
    if world:
        given["world"] = world
        if sweep:
            raise ValueError(
                "--sweep is for language models; give each --set in a run of its own with --world"
            )
        run = call(stated, out=out, settings=settings, **given)
        print(f"report   {run.report}\npolicy   {run.checkpoint}")
        return None
    if sweep:
        from equipoise.cli.training.sweep import run_all

        return run_all(stated, sweep, out, settings, given)
    run = call(stated, out=out, settings=settings, **given)
    if not int(os.environ.get("RANK", "0")):  # of several processes the first one reports
        print_closing(run.folder)
        print(f"report   {run.report}\nmodel    {run.checkpoint}")
        best = run.summary.get("best")
        if best:
            at = f"round {best['round']}" + (f", step {best['step']}" if best["step"] else "")
            print(f"best     {run.best}  ({best['metric']} {best['value']:.4g}, {at})")
    if "left_support" in run.summary:
        raise typer.Exit(LEFT_SUPPORT)
    return None
