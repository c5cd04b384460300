"""`equipoise plan`: what a run will cost, before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Allow, Json, Settings


def plan(
    method: Annotated[str, typer.Argument(help="see `equipoise methods`")],
    model: Annotated[str | None, typer.Option(help="checkpoint folder or hub name")] = None,
    data: Annotated[list[str] | None, typer.Option(help="file of pairs or prompts (repeatable)")] = None,
    oracle: Annotated[
        str | None,
        typer.Option(
            help="module:function, file.py:function, a judge's YAML file, or a reward model's folder"
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds of the game")] = None,
    out: Annotated[Path | None, typer.Option(help="where the run folder would be")] = None,
    seed: Annotated[int | None, typer.Option(help="random seed of the whole run")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings")] = None,
    allow: Allow = None,
    set: Settings = None,
    json: Json = False,
) -> None:
    """Estimate memory, time, optimizer steps and disk of a run by short probes; no run folder is made."""
    from equipoise.cli.options import show
    from equipoise.run.config import parse_settings
    from equipoise.run.plan import Plan
    from equipoise.run.plan import plan as call
    from equipoise.run.session import configured

    resolved = configured(
        method,
        model=model,
        data=list(data) if data else None,
        oracle=oracle,
        rounds=rounds,
        seed=seed,
        config=config,
        settings=parse_settings(set or []),
        allow=allow or [],
    )
    show(call(resolved, out), json, lambda made, _: print("\n".join(made.lines())), plain=Plan.as_json)
