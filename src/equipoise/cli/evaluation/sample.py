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
    placed,
    quiet_libraries,
    read_examples,
    read_prompts,
)
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
    if format not in ("jsonl", "alpaca_eval"):
        raise ValueError(f"--format must be jsonl or alpaca_eval, got {format!r}")
    if principle is None and divergence is not None:
        raise ValueError("--divergence bounds the step of --principle, which is not given")
    if principle is not None and revise:
        raise ValueError(
            "--principle and --revise do not go together: revisions are written without the contrast"
        )
    check_new(str(out), overwrite=overwrite)
    from dataclasses import replace

    from equipoise.data.plain_strings import note_plain_strings
    from equipoise.evaluate.answers import alpaca_rows, write_answers
    from equipoise.evaluate.examples import prompted
    from equipoise.evaluate.located import locate
    from equipoise.evaluate.principle import principled
    from equipoise.evaluate.writer import Writer, sampled
    from equipoise.policy.generation.contrast import Contrast
    from equipoise.policy.protocol import Decoding

    quiet_libraries()
    where = locate(model, round)
    decoding = Decoding(
        temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=max_new_tokens, batch=batch
    )
    dataset = read_prompts(data, wrap=wrap, system=system, limit=limit, seed=seed)
    writer = Writer.load(where, **placed(precision))
    writer = replace(writer, name=name or writer.name)
    note_plain_strings(dataset, template=writer.renderer.template is not None)
    prompts = writer.prompts(dataset)
    print(dataset.ledger, file=sys.stderr)
    shown = read_examples(examples, shots, embedding)
    contrast = None
    if principle is not None:
        aligned = principled(writer, prompts, principle)
        aligned = prompted(writer, aligned, shown) if shown else aligned
        contrast = Contrast(prompts=aligned, strength=strength, divergence=divergence)
    prompts = prompted(writer, prompts, shown) if shown else prompts
    kept = out.with_name(f"{out.name}.unfinished")
    done = 0

    def tick(more: int) -> None:
        nonlocal done
        done += more
        if more:
            print(f"{done:,} of {len(prompts):,} prompts", file=sys.stderr)

    answers = sampled(
        writer,
        prompts,
        count,
        decoding,
        seed=seed,
        revisions=revise,
        store=kept,
        tick=tick,
        contrast=contrast,
    )
    if format == "alpaca_eval":
        alpaca_rows(answers, out)  # refuses before anything is written
    write_answers(out, answers, format)
    kept.unlink(missing_ok=True)
    print(f"answers  {out}  ({len(answers):,} of {writer.name})")
