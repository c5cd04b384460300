"""`equipoise plan`: what a run will cost, before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.loading import told
from equipoise.cli.options import (
    Allow,
    Config,
    Data,
    Json,
    MethodName,
    Model,
    Oracle,
    Rounds,
    RunSeed,
    Settings,
)


def plan(
    method: MethodName = None,
    model: Model = None,
    data: Data = None,
    oracle: Oracle = None,
    rounds: Rounds = None,
    out: Annotated[Path | None, typer.Option(help="where the run folder would be")] = None,
    seed: RunSeed = None,
    config: Config = None,
    allow: Allow = None,
    set: Settings = None,
    processes: Annotated[
        int, typer.Option("--processes", "-n", min=1, help="processes that will share the run (launch)")
    ] = 1,
    json: Json = False,
) -> None:
    """Estimate memory, time, optimizer steps, disk and questions to a judge, by short probes; no run folder is made,
    and a judge is asked nothing."""
    with told():
        from equipoise.cli.options import show
        from equipoise.run.config import method_name, parse_settings
        from equipoise.run.planning.plan import Plan
        from equipoise.run.planning.plan import plan as call
        from equipoise.run.session import configured

    resolved = configured(
        method_name(method, config),
        model=model,
        data=list(data) if data else None,
        oracle=oracle,
        rounds=rounds,
        seed=seed,
        config=config,
        settings=parse_settings(set or []),
        allow=allow or [],
    )
    show(
        call(resolved, out, processes),
        json,
        lambda made, _: print("\n".join(made.lines())),
        plain=Plan.as_json,
    )
