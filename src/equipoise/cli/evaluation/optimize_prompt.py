"""`equipoise optimize-prompt`: a system prompt searched with dynamic rewards of a judge (DRPO), without training."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from equipoise.api.options import placed
from equipoise.cli.evaluation.options import (
    Batch,
    EmbeddingModel,
    ExampleFiles,
    Limit,
    MaxNewTokens,
    Precision,
    Round,
    SamplingSeed,
    Shots,
    Temperature,
    TopP,
    Wrap,
    read_prompts,
)
from equipoise.cli.options import Json


def optimize_prompt(
    model: Annotated[str, typer.Argument(help="a model or adapter folder, a hub name, or a run folder")],
    data: Annotated[list[str], typer.Option(help="file of queries, or of any other data (repeatable)")],
    judge: Annotated[
        Path, typer.Option(help="YAML file of a judge: its server chooses the aspects and scores")
    ],
    out: Annotated[
        Path, typer.Option(help="folder of system_prompt.txt, report.json, report.txt and the steps")
    ],
    optimizer: Annotated[
        Path | None,
        typer.Option(help="YAML file of the model that proposes prompts; the judge's if not given"),
    ] = None,
    initial: Annotated[
        str, typer.Option(help="the system prompt to begin with; empty: none")
    ] = "You are a helpful assistant.",
    aspects: Annotated[
        Path | None, typer.Option(help="YAML file of aspects, NAME: MEANING; 14 of the method's if not given")
    ] = None,
    width: Annotated[int, typer.Option(min=1, help="prompts in the beam; 1: hill climbing")] = 2,
    depth: Annotated[int, typer.Option(min=0, help="steps, each on one query")] = 10,
    proposals: Annotated[int, typer.Option(min=1, help="new prompts proposed for each one in the beam")] = 3,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="queries kept aside, by which the result is chosen; a third of them, at most 20, if not given",
        ),
    ] = None,
    examples: ExampleFiles = None,
    shots: Shots = 2,
    embedding: EmbeddingModel = None,
    example_steps: Annotated[
        int,
        typer.Option(
            min=0, help="with --examples: steps in which each answer is improved before; 0: they stay"
        ),
    ] = 0,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = 256,
    seed: SamplingSeed = 0,
    round: Round = "final",
    wrap: Wrap = "none",
    limit: Limit = None,
    precision: Precision = "fp32",
    batch: Batch = 32,
    concurrency: Annotated[int, typer.Option(min=1, help="questions in flight at a time")] = 8,
    retries: Annotated[int, typer.Option(min=0, help="times a question is asked again")] = 3,
    most_calls: Annotated[
        int | None, typer.Option(min=1, help="most questions to each server in this call")
    ] = None,
    most_cost: Annotated[
        float | None, typer.Option(min=0, help="most that each server may cost, by the prices in its file")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search the system prompt under which a model's answers earn the most from a judge (DRPO, 2411.08733).

    Nothing is trained: use the result with `equipoise sample --system "$(cat OUT/system_prompt.txt)"`, with the same
    --examples, or with OUT/examples.jsonl where they were improved. The same command goes on where an interrupted one
    stopped, and asks no question twice.
    """
    from dataclasses import replace

    from equipoise.evaluate.examples import shown_from, write_examples
    from equipoise.evaluate.located import locate
    from equipoise.evaluate.prompt_search.example_search import improved
    from equipoise.evaluate.prompt_search.questions import ASPECTS, read_aspects, usable_prompt
    from equipoise.evaluate.prompt_search.run import (
        VERDICTS,
        Models,
        ModelTask,
        SearchFolder,
        check_queries,
        read_server,
        settings_of_search,
        split,
    )
    from equipoise.evaluate.prompt_search.search import Plan, report_text, search
    from equipoise.evaluate.writer import Writer
    from equipoise.oracles.questions.questioner import Policy
    from equipoise.policy.files import write_json, write_text
    from equipoise.policy.protocol import Decoding

    if example_steps and not examples:
        raise ValueError("--example-steps improves --examples, which are not given")

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    first = usable_prompt(initial) if initial.strip() else ""
    asked = read_aspects(aspects) if aspects else ASPECTS
    where = locate(model, round)
    shown = shown_from(examples, shots, embedding)
    dataset = read_prompts(data, wrap=wrap, system=None, limit=limit, seed=seed)
    policy = Policy(
        concurrency=concurrency, retries=retries, most_calls=most_calls, most_cost=most_cost, unreadable=0.0
    )
    for file in (judge, optimizer):
        if file is not None:
            read_server(file)  # refused before a model is loaded
    writer = Writer.load(where, **placed(precision))
    queries = writer.prompts(dataset)
    print(dataset.ledger, file=sys.stderr)
    check_queries(queries)
    kept = held_out or max(1, min(20, len(queries) // 3))
    training, aside = split(len(queries), kept, depth, seed)
    plan = Plan(
        initial=first, width=width, depth=depth, proposals=proposals, training=training, held_out=aside
    )
    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, batch=batch)
    models = Models.of(judge, optimizer, asked, out / VERDICTS, policy)
    task = ModelTask(
        writer=writer, queries=queries, models=models, decoding=decoding, seed=seed, examples=shown
    )
    folder = SearchFolder(out, settings_of_search(task, plan, example_steps))
    rewards: list[dict[str, float]] = []
    if example_steps and shown is not None:
        better, rewards = improved(
            task, shown.examples, steps=example_steps, proposals=proposals, record=folder, tell=tell
        )
        task = replace(task, examples=replace(shown, examples=tuple(better)))
        write_examples(out / "examples.jsonl", better)
    report = {**search(task, plan, folder, tell), "examples": rewards}
    write_text(out / "system_prompt.txt", report["system_prompt"] + "\n")
    write_json(out / "report.json", report)
    write_text(out / "report.txt", report_text(report))
    if as_json:
        print(json.dumps(report))
        return
    print(report_text(report), end="")
    print(f"prompt   {out / 'system_prompt.txt'}\nreport   {out / 'report.json'}")
