"""`equipoise oracle fit-user`: a new user's reward from few labels, on trained ideal points (PAL)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from equipoise.cli.options import Json, Overwrite, show
from equipoise.cli.output_file import check_new, write_new


def fit_user(
    folder: Annotated[Path, typer.Argument(help="folder of `equipoise oracle train pal`")],
    data: Annotated[list[str], typer.Option(help="pairs of new users, who are named in `user_id`")],
    out: Annotated[Path, typer.Option(help="the oracle's YAML file to write")],
    as_json: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Fit the mixture weights of new users, and nothing else; `--oracle FILE` then judges as they would."""
    from equipoise.data.reading.read import read
    from equipoise.reward_models.users.pal_training import fit_users, load_pal

    check_new(str(out), overwrite=overwrite)
    found = fit_users(load_pal(folder), read(data))
    weights = {name: figures["weights"] for name, figures in found.items()}
    said = {"kind": "pal", "path": str(folder.resolve()), "weights": weights}
    write_new((str(out), [yaml.safe_dump(said, sort_keys=False, allow_unicode=True)]), overwrite=overwrite)
    show({"users": found, "oracle": str(out)}, as_json, _print, plain=lambda result: result)


def _print(result: dict[str, Any], console: Console) -> None:
    for name, figures in result["users"].items():
        weights = ", ".join(f"{weight:.3f}" for weight in figures["weights"])
        said = f"{name}: weights {weights} from {figures['labels']} labels, of which {figures['accuracy']:.0%} are met"
        console.print(said, markup=False)
    console.print(f"oracle   {result['oracle']}", markup=False)
