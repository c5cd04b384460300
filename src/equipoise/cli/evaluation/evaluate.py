"""`equipoise evaluate`: is it better? Win rates, ratings, exploitability and more, with intervals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.evaluation.options import (
    Batch,
    Count,
    Limit,
    MaxNewTokens,
    Precision,
    Round,
    SamplingSeed,
    System,
    Temperature,
    TopK,
    TopP,
    Wrap,
)
from equipoise.cli.loading import told
from equipoise.cli.options import Json

RESULTS = "results.json"


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="models, adapters, run folders, files of answers; or files that a judge has filled (AlpacaEval "
            "annotations, Arena-Hard or MT-Bench judgments), or RewardBench's items"
        ),
    ],
    data: Annotated[list[str] | None, typer.Option(help="file of prompts (repeatable)")] = None,
    oracle: Annotated[
        str | None,
        typer.Option(
            help="the judge: module:function, file.py:function, a YAML file, a reward model's folder, or playground"
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="whom the others are compared with; the last model, or a run's start, if not given"
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="a policy from which KL divergences are measured")
    ] = None,
    pairs: Annotated[
        list[str] | None, typer.Option(help="held-out pairs, for ranking accuracies (repeatable)")
    ] = None,
    difficulty: Annotated[
        Path | None,
        typer.Option(
            help="AlpacaEval's df_gamed.csv or instruction_difficulty.csv, for its full length control"
        ),
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--everybody", help="all pairs of models meet, and not only each the baseline")
    ] = False,
    lm_eval: Annotated[
        str | None, typer.Option(help="tasks of lm-evaluation-harness, separated by commas")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of results.json, the page, answers and verdicts")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="also write files of alpaca_eval, arena_hard or mt_bench into --out")
    ] = None,
    count: Count = 1,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    max_new_tokens: MaxNewTokens = 256,
    seed: SamplingSeed = 0,
    round: Round = "final",
    wrap: Wrap = "none",
    system: System = None,
    limit: Limit = None,
    precision: Precision = "fp32",
    batch: Batch = 32,
    failures: Annotated[
        float, typer.Option(min=0, max=0.99, help="share of questions that may stay without a verdict")
    ] = 0.1,
    as_json: Json = False,
) -> None:
    """Compare models, run folders or files of answers: win rate, length control, ratings, each with an interval."""
    with told():
        from equipoise.api.evaluation import evaluate as call
        from equipoise.report.evaluation import print_evaluation

    done = call(
        *models, data=data or None, oracle=oracle, baseline=baseline, reference=reference, pairs=pairs or None,
        difficulty=difficulty, everybody=everybody, out=out or Path("evaluation"), format=format, count=count,
        temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=max_new_tokens, seed=seed, round=round,
        wrap=wrap, system=system, limit=limit, precision=precision, batch=batch, failures=failures,
        lm_eval=[t.strip() for t in (lm_eval or "").split(",") if t.strip()],
        tell=(lambda line: None) if as_json else (lambda line: print(line, file=sys.stderr)),
    )  # fmt: skip
    if as_json:
        print(json.dumps(done.results))
        return
    print_evaluation(done.results)
    print(f"results  {done.folder / RESULTS}\npage     {done.page}")
