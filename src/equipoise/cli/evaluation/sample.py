"""`equipoise sample`: answers of a model to prompts, in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.evaluation.options import (
    Batch,
    Count,
    EmbeddingModel,
    ExampleFiles,
    Limit,
    MaxNewTokens,
    Precision,
    Round,
    SamplingSeed,
    Shots,
    System,
    Temperature,
    TopK,
    TopP,
    Wrap,
)
from equipoise.cli.loading import told
from equipoise.cli.options import Overwrite
from equipoise.cli.output_file import check_new


def sample(
    model: Annotated[str, typer.Argument(help="a model or adapter folder, a hub name, or a run folder")],
    data: Annotated[list[str], typer.Option(help="file of prompts, or of any other data (repeatable)")],
    out: Annotated[Path, typer.Option(help="file of answers to write")],
    count: Count = 1,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    max_new_tokens: MaxNewTokens = 256,
    seed: SamplingSeed = 0,
    format: Annotated[
        str, typer.Option(help="jsonl: prompt and completion; alpaca_eval: instruction and output")
    ] = "jsonl",
    round: Round = "final",
    wrap: Wrap = "none",
    system: System = None,
    principle: Annotated[
        str | None,
        typer.Option(
            help="align the answers with this principle while they are written, without training (Linear Alignment, "
            "2401.11458); the authors use --temperature 0.5 --top-p 0.8"
        ),
    ] = None,
    strength: Annotated[
        float,
        typer.Option(
            min=-1,
            help="with --principle: step beyond the model that has the principle in its prompt; 0 is that model, "
            "-1 the one without it",
        ),
    ] = 3.0,
    divergence: Annotated[
        float | None,
        typer.Option(help="with --principle: most nats that the step may move a token's distribution"),
    ] = None,
    examples: ExampleFiles = None,
    shots: Shots = 2,
    embedding: EmbeddingModel = None,
    limit: Limit = None,
    precision: Precision = "fp32",
    batch: Batch = 32,
    name: Annotated[str | None, typer.Option(help="what the model is called in the file")] = None,
    revise: Annotated[
        int, typer.Option(min=0, help="times the model improves its own answer; the last version is written")
    ] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Sample answers of a model, an adapter or a run's policy to the prompts of data, as training samples them.

    With --principle the answers are aligned at decoding: two forward passes a token, nothing is trained. The file
    appears when it is complete; the same command goes on where an interrupted one stopped.
    """
    check_new(str(out), overwrite=overwrite)
    with told():
        from equipoise.api.sampling import sample as call

    answers = call(
        model, data, out=out, count=count, temperature=temperature, top_p=top_p, top_k=top_k,
        max_new_tokens=max_new_tokens, seed=seed, format=format, round=round, wrap=wrap, system=system,
        principle=principle, strength=strength, divergence=divergence, examples=examples, shots=shots,
        embedding=embedding, limit=limit, precision=precision, batch=batch,
        name=name, revise=revise,
        begun=lambda ledger: print(ledger, file=sys.stderr),
        tick=lambda done, total: print(f"{done:,} of {total:,} prompts", file=sys.stderr),
    )  # fmt: skip
    print(f"answers  {out}  ({len(answers):,} of {answers.name})")
