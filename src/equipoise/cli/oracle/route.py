"""`equipoise oracle route`: which comparisons people should label, and which a judge may."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from equipoise.cli.data.options import FormatName, Mapped, given, options_of
from equipoise.cli.options import Json, Overwrite, show
from equipoise.cli.output_file import check_new, write_new

if TYPE_CHECKING:
    from rich.console import Console

    from equipoise.oracles.hybrid.pool import Routed


def route(
    pairs: Annotated[
        list[str], typer.Argument(metavar="PAIRS ...", help="pairs to be labelled; their labels are not read")
    ],
    *,
    human_budget: Annotated[int, typer.Option(min=0, help="how many of them people can label")],
    learn: Annotated[
        list[str],
        typer.Option(metavar="FILE", help="pairs with people's labels and the judge's (repeatable)"),
    ],
    ai_label: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="column of --learn with the judge's probability that the chosen answer is better",
        ),
    ] = "ai",
    tags: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="columns of both files that are features too, such as subject"),
    ] = None,
    measure: Annotated[
        Literal["reward", "labels"],
        typer.Option(
            help="what a mix is measured by: a small reward model trained on it, or its share of right labels"
        ),
    ] = "reward",
    mixes: Annotated[int, typer.Option(min=2, help="mixes of labels to try")] = 200,
    measured: Annotated[
        Path | None,
        typer.Option(
            help='mixes you measured, lines {"people": [ids], "performance": number}, in place of --mixes'
        ),
    ] = None,
    quadratic: Annotated[
        bool, typer.Option("--quadratic", help="a predictor with squares and products of counts")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="write the pairs for people to this file")] = None,
    rest: Annotated[Path | None, typer.Option(help="write the pairs for the judge to this file")] = None,
    format: FormatName = None,
    mapping: Mapped = None,
    seed: Annotated[int, typer.Option(help="seed of mixes, splits and ties")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Route comparisons to people or to a judge: learn from pairs with both labels where people's help most, and
    spend a budget of people's labels there."""
    from equipoise.data.reading.read import read
    from equipoise.oracles.hybrid.pool import pairs_of, pool_of
    from equipoise.oracles.hybrid.pool import route as routed

    outs = [str(path) for path in (out, rest) if path]
    check_new(*outs, overwrite=overwrite)
    names = [name.strip() for name in tags.split(",") if name.strip()] if tags else []
    options = options_of(read)
    asked = given(pairs, options, "route", format=format, mapping=mapping)
    known = given(learn, options, "route", format=format, mapping=mapping)
    records = pairs_of(read(asked.files, **asked.settings), names)
    pool = pool_of(read(known.files, **known.settings), ai_label, names)
    found = routed(
        records,
        pool,
        human_budget,
        tags=names,
        measure=measure,
        mixes=measured or mixes,
        quadratic=quadratic,
        seed=seed,
    )
    files = []
    for path, wanted in ((out, True), (rest, False)):
        if path:
            files.append((str(path), _lines(found, wanted)))
    write_new(*files, overwrite=overwrite)
    show(found, as_json, _print, plain=lambda result: result.as_json())


def _lines(found: Routed, people: bool) -> list[str]:
    import json

    rows = zip(found.records, found.chosen.tolist(), found.gains.tolist(), strict=True)
    return [
        json.dumps({**record.as_row(), "gain": gain}, ensure_ascii=False, default=str) + "\n"
        for record, chosen, gain in rows
        if chosen is people
    ]


def _print(found: Routed, console: Console) -> None:
    fit = found.predictor.r_squared
    explained = (
        "" if fit is None else f"; on mixes it had not seen the predictor explains {fit:.2f} of the variance"
    )
    console.print(
        f"{int(found.chosen.sum())} of {len(found.records)} pairs go to people ({found.mixes} mixes{explained})"
    )
    order = sorted(found.weights.items(), key=lambda item: -item[1])
    for title, part in (("most gained by people's labels", order[:5]), ("least", order[::-1][:5])):
        console.print(f"{title}:")
        for name, gain in part:
            console.print(f"  {gain:+.2e} a pair  {name}", markup=False, highlight=False)
    if fit is not None and fit <= 0:
        console.print(
            "The predictor predicts nothing: the route is no better than chance. Try more mixes, or a larger pool."
        )
