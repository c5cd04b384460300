"""`equipoise label FILE`: a local page where people compare responses; `report` and `export` read the votes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from equipoise.cli.data.options import FormatName, Mapped
from equipoise.cli.options import Json, Overwrite, Settings, show

if TYPE_CHECKING:
    from equipoise.label.pairs import Pair


class PageByDefault(TyperGroup):
    """The commands of this group; anything that is none of them is a file, for the page."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["page", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=PageByDefault,
    no_args_is_help=True,
    help="Let people compare responses, blind, on a page of this machine: `equipoise label FILE`.",
)
VotesFiles = Annotated[list[Path], typer.Argument(metavar="VOTES ...", help="votes files of `label page`")]


@app.command()
def page(
    file: Annotated[
        list[str] | None, typer.Argument(metavar="FILE ...", help="pairs, lists, or one run folder")
    ] = None,
    a: Annotated[str | None, typer.Option("--a", help="answers of one system, instead of FILE")] = None,
    b: Annotated[str | None, typer.Option("--b", help="answers of the other, to the same prompts")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="votes file, resumed if it exists [default: name of FILE + .votes.jsonl]"),
    ] = None,
    rater: Annotated[str | None, typer.Option(help="who answers; without it the page asks")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="show so many pairs, drawn by seed")] = None,
    repeat: Annotated[
        float, typer.Option(min=0, max=1, help="share of pairs shown again later, for self-agreement")
    ] = 0.0,
    question: Annotated[str, typer.Option(help="what is asked")] = "Which answer is better?",
    seed: Annotated[int, typer.Option(help="of order, sides and repeats")] = 0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="on 127.0.0.1; 0: a free one")] = 0,
    round: Annotated[int | None, typer.Option(min=1, help="of a run folder; none: all rounds")] = None,
    format: FormatName = None,
    mapping: Mapped = None,
    set: Settings = None,
) -> None:
    """Open the page. The same command resumes; what `label FILE` does."""
    from equipoise.label.errors import LabelError
    from equipoise.label.pairs import drawn

    try:
        from equipoise.label.server import Page
        from equipoise.label.site import check_rater
    except ImportError as error:
        raise LabelError("the page needs a server: pip install 'equipoise[label]'") from error
    from equipoise.label.desk import PlannedDesk
    from equipoise.label.votes import Votes, claim

    if rater is not None:
        rater = check_rater(rater)
    files = [name for name in (a, b) if name is not None]
    if bool(file) == bool(files) or len(files) == 1:
        raise LabelError(
            "give FILE (pairs, lists or a run folder), or two files of answers, --a FILE --b FILE"
        )
    pairs, notes = _read(file, files, seed, round=round, format=format, mapping=mapping, set=set)
    path = out or Path(f"{Path((file or files)[0]).name.split('.')[0] or 'labels'}.votes.jsonl")
    with claim(path):
        votes = Votes.begin(path, drawn(pairs, count, seed), seed=seed, repeats=repeat, question=question)
        desk = PlannedDesk(votes, question)
        opened = Page(desk, port, rater)
        for note in notes:
            typer.echo(f"- {note}", err=True)
        for name, cast in votes.cast.items():
            typer.echo(f"- {name} has answered {len(cast):,} of {votes.total:,}", err=True)
        typer.echo(f"votes  {path}")
        typer.echo(f"page   {opened.address}\n       Ctrl-C ends it; the same command resumes")
        opened.serve()
    answered = sum(map(len, votes.cast.values()))
    typer.echo(f"{answered:,} answers in {path}; equipoise label report {path}")


@app.command()
def report(
    files: VotesFiles,
    oracle: Annotated[
        str | None, typer.Option(help="a judge that is asked about the same pairs: as --oracle of align")
    ] = None,
    as_json: Json = False,
) -> None:
    """Win rates, and agreement between raters, of each with themselves, with recorded labels, and with a judge."""
    from equipoise.label.summary import joined, summary
    from equipoise.label.text import print_summary

    votes = joined(files)
    judge = None
    if oracle:
        from equipoise import oracles

        judge = oracles.load(oracle, store=files[0].with_name(f"{files[0].name}.verdicts.sqlite"))
    show(summary(votes, judge), as_json, print_summary)


@app.command()
def export(
    files: VotesFiles,
    out: Annotated[str, typer.Option(help="file of JSON lines; -: standard output")],
    overwrite: Overwrite = False,
) -> None:
    """Write the votes as training pairs, which `align --data` and `data check` read."""
    import json

    from equipoise.cli.output_file import check_new, write_new
    from equipoise.label.export import training_pairs
    from equipoise.label.summary import joined

    check_new(out, overwrite=overwrite)
    rows, account = training_pairs(joined(files))
    write_new((out, (json.dumps(row) + "\n" for row in rows)), overwrite=overwrite)
    said = "{written:,} pairs written, {ties:,} of them ties; left out: {both bad:,} both bad, {skipped:,} skipped, "
    typer.echo((said + "{not shown:,} without an answer").format_map(account), err=True)


def _read(
    compared: list[str] | None, answers: list[str], seed: int, *, round: int | None, **options: Any
) -> tuple[Sequence[Pair], list[str]]:
    from equipoise.cli.data.options import given, options_of
    from equipoise.cli.data.output import dataset_of
    from equipoise.data.reading.read import read
    from equipoise.label.pairs import of_dataset, of_two

    data = given(compared or answers, options_of(read), "label", **options)
    if compared:
        datasets = [dataset_of(data.files, data.settings, round=round)]
        pairs, notes = of_dataset(datasets[0], seed)
    else:
        datasets = [read([path], **data.settings) for path in answers]
        short = [Path(path).name.split(".")[0] for path in answers]
        first, second = short if short[0] != short[1] else answers  # the systems' names
        pairs, notes = of_two(datasets[0], datasets[1], (first, second))
    for dataset in datasets:
        refused = [f"{times:,} rows refused: {why}" for why, times in dataset.ledger.refused.items()]
        notes = [*dataset.notes, *refused, *notes]
    return pairs, notes
