"""`equipoise data ...`: look at preference data before training on it, and write it in other layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from equipoise.api.options import placed
from equipoise.cli.data.options import (
    Configuration,
    Files,
    FormatName,
    Given,
    Mapped,
    given,
    reads_data,
)
from equipoise.cli.evaluation.options import (
    Batch,
    MaxNewTokens,
    Precision,
    Round,
    SamplingSeed,
    Temperature,
    TopP,
)
from equipoise.cli.options import Json, Overwrite, Seed, Settings, show
from equipoise.cli.output_file import check_new

app = typer.Typer(no_args_is_help=True, help="Look at preference data, and convert, split or sample it.")


@app.command()
def check(
    file: Files = None,
    model: Annotated[
        str | None, typer.Option(help="show tokens as this model's tokenizer makes them")
    ] = None,
    format: FormatName = None,
    mapping: Mapped = None,
    rows: Annotated[int, typer.Option(min=0, help="how many of the first rows are shown")] = 3,
    row: Annotated[
        list[str] | None, typer.Option("--row", metavar="FILE:LINE", help="show this row (repeatable)")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="write the report as one HTML page")] = None,
    config: Configuration = None,
    set: Settings = None,
    as_json: Json = False,
) -> None:
    """Read data as a run would: the ledger, lengths, labels, and with a model which tokens are scored."""
    from equipoise.report.data_check.check import SETTINGS, check_json
    from equipoise.report.data_check.check import check as read
    from equipoise.report.data_check.text import print_check

    data = given(file, SETTINGS, "check", format=format, mapping=mapping, set=set, config=config)
    report = read(data.files, model or data.model, rows, row or (), **data.settings)
    if html:
        from equipoise.report.data_check.page import write_page

        write_page(report, html)
    show(report, as_json, print_check, plain=check_json)
    if html and not as_json:
        print(f"page  {html}")


To = Annotated[
    Literal["jsonl", "trl", "openai", "llama-factory"],
    typer.Option("--to", help="layout to write; jsonl: our own, which holds every kind"),
]
Pairs = Annotated[
    Literal["best_worst", "all", "adjacent"] | None,
    typer.Option(help="make pairs of ranked or scored lists"),
]
Lossless = Annotated[bool, typer.Option("--lossless", help="refuse rather than leave anything out")]


@app.command()
@reads_data
def convert(
    data: Given,
    *,
    out: Annotated[str, typer.Option(help="file of JSON lines; -: standard output")],
    to: To = "jsonl",
    round: Annotated[
        int | None,
        typer.Option(min=1, help="of a run folder: this round's judged responses; none: all rounds"),
    ] = None,
    pairs: Pairs = None,
    lossless: Lossless = False,
    overwrite: Overwrite = False,
) -> None:
    """Write data, or the judged responses of a run folder, in another layout."""
    from equipoise.cli.data.output import dataset_of, report_layout, write

    check_new(out, overwrite=overwrite)
    dataset = dataset_of(data.files, data.settings, round=round, pairs=pairs)
    write((out, dataset), to=to, lossless=lossless, overwrite=overwrite)
    report_layout(to, dataset.kind, out)


@app.command()
@reads_data
def split(
    data: Given,
    *,
    out_train: Annotated[str, typer.Option(help="file of JSON lines")],
    out_held_out: Annotated[str, typer.Option(help="file of JSON lines")],
    fraction: Annotated[float, typer.Option(help="share of the prompts (or users) that is held out")] = 0.1,
    by: Annotated[
        Literal["prompt", "user"], typer.Option(help="what the two parts share none of")
    ] = "prompt",
    seed: Seed = 0,
    to: To = "jsonl",
    overwrite: Overwrite = False,
) -> None:
    """Split data by prompt, or by annotator, into a training and a held-out part that share none."""
    from equipoise.cli.data.output import dataset_of, write
    from equipoise.data.split import split as parts

    outs = (out_train, out_held_out)
    check_new(*outs, overwrite=overwrite)
    dataset = dataset_of(data.files, data.settings)
    sides = map(dataset.with_records, parts(dataset.records, fraction, seed, by))
    write(*zip(outs, sides, strict=True), to=to, overwrite=overwrite)


@app.command()
@reads_data
def sample(
    data: Given,
    *,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="how many rows, or prompts")],
    out: Annotated[str, typer.Option(help="file of JSON lines; -: standard output")],
    by: Annotated[Literal["row", "prompt"], typer.Option(help="what is counted")] = "row",
    seed: Seed = 0,
    to: To = "jsonl",
    overwrite: Overwrite = False,
) -> None:
    """Write a random sample of rows, or of whole prompts, in the order of the data."""
    from equipoise.cli.data.output import dataset_of, write
    from equipoise.data.sample import sample as drawn

    check_new(out, overwrite=overwrite)
    dataset = dataset_of(data.files, data.settings)
    kept = dataset.with_records(drawn(dataset.records, count, seed, by))
    write((out, kept), to=to, overwrite=overwrite)


@app.command()
@reads_data
def rationales(
    data: Given,
    *,
    model: Annotated[
        str, typer.Option(help="who writes: a model or adapter folder, a hub name, or a run folder")
    ],
    out: Annotated[str, typer.Option(help="file of JSON lines")],
    again: Annotated[bool, typer.Option("--again", help="also write those that the data have")] = False,
    temperature: Temperature = 0.7,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = 128,
    round: Round = "final",
    batch: Batch = 32,
    precision: Precision = "fp32",
    seed: SamplingSeed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Have a model write why the preferred answer of each pair is better; an interrupted call goes on."""
    from equipoise.cli.data.output import dataset_of, write
    from equipoise.data.ranked_lists import without_ties
    from equipoise.evaluate.located import locate
    from equipoise.evaluate.rationales import with_written_rationales
    from equipoise.evaluate.writer import Writer
    from equipoise.policy.protocol import Decoding

    check_new(out, overwrite=overwrite)
    where = locate(model, round)
    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, batch=batch)
    dataset = without_ties(dataset_of(data.files, data.settings), "a rationale")
    kept = Path(f"{out}.unfinished")
    written = with_written_rationales(
        Writer.load(where, **placed(precision)),
        dataset,
        decoding,
        again=again,
        seed=seed,
        store=kept,
        tick=lambda more: typer.echo(f"{more:,} more pairs", err=True) if more else None,
    )
    for note in written.notes:
        dataset.ledger.note(note)
    write((out, dataset.with_records(written.records)), overwrite=overwrite)
    kept.unlink(missing_ok=True)


@app.command()
@reads_data
def relabel(
    data: Given,
    *,
    out: Annotated[str, typer.Option(help="file of JSON lines; -: standard output")],
    goal: Annotated[
        str | None, typer.Option(help="sentence that asks for a response of a score, with {goal} in it")
    ] = None,
    level: Annotated[
        list[str] | None,
        typer.Option(
            help="name of a quality level, the worst first (repeatable); none: the scores themselves"
        ),
    ] = None,
    pairs: Pairs = None,
    overwrite: Overwrite = False,
) -> None:
    """Write every scored pair twice, asked for the score of either response, which is then the preferred one."""
    from equipoise.cli.data.output import dataset_of, write
    from equipoise.data.goals import SENTENCE, relabelled

    check_new(out, overwrite=overwrite)
    dataset = dataset_of(data.files, data.settings, pairs=pairs)
    made, _ = relabelled(dataset, SENTENCE if goal is None else goal, level or ())
    write((out, made), overwrite=overwrite)
