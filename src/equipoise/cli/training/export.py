"""`equipoise export` and `equipoise push`: what a run made, for other programs and for the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.evaluation.options import Round
from equipoise.cli.loading import told


def export(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    to: Annotated[
        str,
        typer.Option(
            help="merged: a full model; adapter: the LoRA adapter alone; gguf-ready: a full model for llama.cpp's "
            "converter; trl-jsonl: the run's judged pairs in TRL's columns"
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder to write; it must not exist, or be empty")],
    round: Round = "final",
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16; auto: as the model came in")] = "auto",
) -> None:
    """Write a run's policy, or its pairs, for transformers, vLLM, llama.cpp or TRL."""
    with told():
        from equipoise.api.export import export as call

    done = call(run, to, out, round=round, dtype=dtype)
    print(f"{done.form}  {done.folder}\n{done.said}")


def push(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    to: Annotated[str, typer.Option(help="repository on the Hugging Face Hub, OWNER/NAME")],
    form: Annotated[
        str,
        typer.Option(
            "--as", help="merged or adapter; auto: adapter, if the run trained one on a model of the Hub"
        ),
    ] = "auto",
    round: Round = "final",
    public: Annotated[
        bool, typer.Option("--public", help="make a new repository public; it is private otherwise")
    ] = False,
    dry_run: Annotated[
        Path | None, typer.Option(help="write what would be sent into this folder, and send nothing")
    ] = None,
) -> None:
    """Send a run's policy to the Hugging Face Hub, with a model card written from the run's facts."""
    with told():
        from equipoise.api.push import push as call

    done = call(run, to, form=form, round=round, private=not public, dry_run=dry_run)
    print(f"written  {done.folder}" if done.address is None else f"sent     {done.address}")
