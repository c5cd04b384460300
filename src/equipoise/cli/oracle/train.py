"""`equipoise oracle train`: a reward model or preference model from preference data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from equipoise.cli.options import Config, Data, Json, Settings, show

FEW_STEPS = 10  # as `align` warns: with fewer, a rate's warm-up and schedule mean nothing
Head = Annotated[
    Literal["bt", "gpm", "pair", "groups", "pal"],
    typer.Argument(
        help="bt: a reward for each response (Bradley-Terry); gpm: a general preference, which can be cyclic; "
        "pair: a model that reads both responses together; groups: a reward for each group of users (MaxMin-RLHF); "
        "pal: a reward for every user, as a mixture of prototypes (PAL)"
    ),
]


def train(
    kind: Head,
    model: Annotated[str, typer.Option(help="language model, encoder or reward model to begin from")],
    out: Annotated[Path, typer.Option(help="folder to write; it must not exist")],
    data: Data = None,
    seed: Annotated[int | None, typer.Option(help="seed of the head, the split and the order")] = None,
    config: Config = None,
    set: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a reward model or preference model on pairs or lists; `--oracle FOLDER` then judges with it."""
    from equipoise.run.config import parse_settings, read_file
    from equipoise.run.oracle_training.reward_training import resolve, train_oracle

    typed: dict[str, Any] = {"data.path": list(data) if data else None, "seed": seed}
    settings = resolve(read_file(config) if config else {}, parse_settings(set or []), typed)
    console = Console(stderr=True)

    def progress(line: dict[str, Any]) -> None:
        if "groups" in line:
            console.print(f"{line['groups']} groups: held-out log-loss {line['held_out_log_loss']:.4f}")
        if "model" in line:
            fold = f", fold {line['fold']}/{line['folds']}" if line["folds"] > 1 else ""
            console.print(f"ensemble: model {line['model']}/{line['models']}{fold}", highlight=False)
        if "loss" in line and (line["step"] % 50 == 0 or line["step"] in (1, line["steps"])):
            console.print(
                f"step {line['step']}/{line['steps']}  loss {line['loss']:.4f}  accuracy {line['accuracy']:.3f}"
            )

    result = train_oracle(kind, model, settings, out, report=progress)
    show(result, as_json, _print, plain=lambda found: found.as_json())


def _print(result: Any, console: Console) -> None:
    figures = result.figures
    console.print(f"{result.trained:,} pairs in {result.steps:,} steps; held out: {figures['pairs']:,} pairs")
    if "users_per_group" in figures:
        console.print(
            f"groups   {figures['groups']}, users in each: {figures['users_per_group']}", markup=False
        )
    elif result.steps < FEW_STEPS:
        console.print(
            f"warning  {result.steps:,} optimizer step{'s' * (result.steps != 1)} hardly change a model: lower "
            "train.batch, or raise train.epochs"
        )
    for name in ("accuracy", "log_loss"):
        found = figures[name]
        if found is None:
            continue
        between = "" if found["low"] is None else f"  [{found['low']:.3f}, {found['high']:.3f}]"
        console.print(f"{name.replace('_', '-'):10} {found['value']:.3f}{between}", markup=False)
    if figures["calibration"]:
        console.print(f"calibration error {figures['calibration']['ece']:.3f}")
    if "position_bias" in figures:
        console.print(f"position bias {figures['position_bias']:+.3f}")
    console.print(f"model    {result.folder}", markup=False)
