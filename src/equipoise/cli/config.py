"""`equipoise config ...`: the JSON schema of the settings, and configurations of other preference trainers as ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from equipoise.cli.options import Overwrite
from equipoise.cli.output_file import write_new

app = typer.Typer(no_args_is_help=True, help="The settings' JSON schema; other trainers' configurations.")


@app.callback()
def group() -> None:
    """The settings' JSON schema for an editor, and configurations of other preference trainers as ours."""


@app.command()
def schema() -> None:
    """Print the JSON schema of a run's settings, by which an editor completes and checks a --config file."""
    import json

    from equipoise.run.schema import schema as made

    print(json.dumps(made(), indent=2))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="YAML, a shell script with flags, or a Python script")],
    out: Annotated[str, typer.Option(help="YAML file to write; -: standard output")] = "-",
    source: Annotated[
        Literal["trl", "axolotl", "llama-factory", "openrlhf"] | None,
        typer.Option("--from", help="whose configuration it is; by default read off its settings"),
    ] = None,
    trainer: Annotated[
        str | None, typer.Option(help="dpo, kto, cpo or orpo, where the file does not say")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="processes it ran on: they multiply the batch")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Translate a configuration of TRL, Axolotl, LLaMA-Factory or OpenRLHF; what has no equivalent is named."""
    from equipoise.connect.configuration import as_yaml, import_configuration
    from equipoise.run.config import resolve

    t = import_configuration(file, source=source, trainer=trainer, processes=processes)
    resolve(t.method, t.settings)
    write_new((out, [as_yaml(t, file.name)]), overwrite=overwrite)
    print(
        f"{t.source}: method {t.method}; {len(t.translated)} translated, {len(t.missing)} without an equivalent, "
        f"{len(t.ignored)} ignored",
        file=sys.stderr,
    )
    for theirs, why in t.missing:
        print(f"- {theirs}: {why}", file=sys.stderr)
    if out != "-":
        print(f"equipoise align --config {out}", file=sys.stderr)
