"""`equipoise diagnose`: what preference pairs are to a model, and what training did to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.evaluation.options import Limit, MaxNewTokens, Precision, Round, SamplingSeed, System, Wrap
from equipoise.cli.loading import told
from equipoise.cli.options import Json, show
from equipoise.cli.output_file import check_new


def diagnose(
    model: Annotated[
        str,
        typer.Argument(
            help="a model before training; or a run folder: its start, what it delivers, and its held-out pairs"
        ),
    ],
    data: Annotated[list[str] | None, typer.Option(help="file of preference pairs (repeatable)")] = None,
    trained: Annotated[str | None, typer.Option(help="a model that was trained from MODEL")] = None,
    beta: Annotated[float | None, typer.Option(help="of the margin; a run's own, else 0.1")] = None,
    gradients: Annotated[
        int,
        typer.Option(
            min=0, help="pairs whose gradients are taken: two gradients are held in memory; 0: none"
        ),
    ] = 32,
    samples: Annotated[
        int,
        typer.Option(
            min=0, help="answers to each of 64 prompts by both models, for KL and coverage; 0: none"
        ),
    ] = 0,
    max_new_tokens: MaxNewTokens = 64,
    keep: Annotated[
        float | None,
        typer.Option(
            help="with --filtered: share of the pairs that is kept, those of least hidden similarity"
        ),
    ] = None,
    filtered: Annotated[
        Path | None, typer.Option(help="file of the pairs that are kept (JSON lines)")
    ] = None,
    round: Round = "final",
    wrap: Wrap = "none",
    system: System = None,
    limit: Limit = None,
    precision: Precision = "fp32",
    seed: SamplingSeed = 0,
    out: Annotated[Path | None, typer.Option(help="write the diagnosis as one HTML page")] = None,
    report: Annotated[
        bool, typer.Option("--report", help="of a run alone: show the diagnosis in the run's report too")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that exist")] = False,
    as_json: Json = False,
) -> None:
    """Diagnose preference pairs under a model: which are likely to lose the probability of their preferred response,
    which way a step moves them, which will stay in the wrong order; and after training, what moved and where it went.
    """
    for path in (out, filtered):
        if path:
            check_new(str(path), overwrite=overwrite)
    with told():
        from equipoise.api.diagnosis import diagnose as call
        from equipoise.report.diagnosis.text import print_diagnosis

    found = call(
        model, data or None, trained=trained, beta=beta, gradients=gradients, samples=samples,
        max_new_tokens=max_new_tokens, keep=keep, filtered=filtered, report=report, round=round, wrap=wrap,
        system=system, limit=limit, precision=precision, seed=seed,
        tell=(lambda line: None) if as_json else (lambda line: print(line, file=sys.stderr)),
    )  # fmt: skip
    if out:
        found.save(out)
    show(
        found,
        as_json,
        lambda made, console: print_diagnosis(made.figures, made.ledger, console),
        plain=lambda made: {**made.figures, "findings": [vars(one) for one in made.findings]},
    )
    for name, path in (("page", out), ("report", found.report), ("pairs", filtered)):
        if path and not as_json:
            print(f"{name}  {path}")
