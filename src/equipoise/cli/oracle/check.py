"""`equipoise oracle check`: everything to know of an oracle before a week of compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.data.options import FormatName, Mapped, given, options_of
from equipoise.cli.options import Json, Settings, show
from equipoise.cli.output_file import check_new


def check(
    oracle: Annotated[
        str, typer.Argument(help="the oracle, as `align --oracle` takes it: a rule, a YAML file or a folder")
    ],
    *,
    data: Annotated[list[str], typer.Option(help="file of labelled pairs or lists (repeatable)")],
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="ORACLE ...", help="further oracles to compare with, several at a time"),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="most comparisons: whole prompts, drawn at random; 0: all of them")
    ] = 2000,
    again: Annotated[
        int,
        typer.Option(
            min=0, help="ask this many comparisons a second time, to see whether it agrees with itself"
        ),
    ] = 0,
    writers: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="columns that say who wrote each answer, such as chosen_model,rejected_model"
        ),
    ] = None,
    annotation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="a property that the data hold as chosen_NAME and rejected_NAME (repeatable)"
        ),
    ] = None,
    fits: Annotated[
        bool, typer.Option("--fits/--no-fits", help="fit preference models and the weights of properties")
    ] = True,
    store: Annotated[
        Path | None,
        typer.Option(help="file in which verdicts of single questions are kept: nothing is asked twice"),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="questions in flight at once")] = 1,
    format: FormatName = None,
    mapping: Mapped = None,
    set: Settings = None,
    seed: Annotated[int, typer.Option(help="seed of draws, folds and Monte Carlo")] = 0,
    out: Annotated[Path | None, typer.Option(help="write the report as one HTML page")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a page that exists")] = False,
    as_json: Json = False,
) -> None:
    """Check an oracle on labelled comparisons, asked in both orders: accuracy, order and length bias, calibration,
    cycles, whether one score per answer suffices, agreement with other oracles, and which properties it rewards."""
    from equipoise.data.reading.read import read
    from equipoise.evaluate.oracle_check import Wanted
    from equipoise.oracles import Policy, load
    from equipoise.report.oracle_check.run import oracle_check, report_json
    from equipoise.report.oracle_check.text import print_report
    from equipoise.run.screen import screen
    from equipoise.worlds.text.progress import Progress

    if out:
        check_new(str(out), overwrite=overwrite)
    columns = _writers(writers)
    chosen = given(data, options_of(read), "check", format=format, mapping=mapping, set=set)
    policy = Policy(concurrency=concurrency)
    oracles = [load(spec, store=store, policy=policy) for spec in (oracle, *(against or ()))]
    with screen(quiet=as_json or not sys.stderr.isatty()) as shown:
        report = oracle_check(
            oracles,
            chosen.files,
            Wanted(again=again, annotated=annotation or (), fits=fits, seed=seed),
            limit=limit or None,
            writers=columns,
            progress=Progress(callbacks=shown),
            **chosen.settings,
        )
    if out:
        from equipoise.report.oracle_check.page import write_page

        write_page(report, out)
    show(report, as_json, print_report, plain=report_json)
    if out and not as_json:
        print(f"page  {out}")


def _writers(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    first, comma, second = text.partition(",")
    if not comma or not first or not second or "," in second:
        raise ValueError(f"--writers {text!r}: name two columns, separated by a comma")
    return first, second
