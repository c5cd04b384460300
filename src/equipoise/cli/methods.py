"""`equipoise methods` and `equipoise explain`: the reference of methods, and losses read as logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Json, show


def methods(
    name: Annotated[str | None, typer.Argument(help="one method, in full")] = None,
    need: Annotated[
        str | None,
        typer.Option(help="only methods that need pairs, unpaired, lists, demonstrations, scores or online"),
    ] = None,
    reference_free: Annotated[
        bool, typer.Option("--reference-free", help="only methods without a frozen reference policy")
    ] = False,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=VALUE", help="only methods with this value on an axis of --axes (repeatable)"
        ),
    ] = None,
    axes: Annotated[
        bool, typer.Option("--axes", help="the methods by data, training, constraint and target")
    ] = False,
    worlds: Annotated[
        bool, typer.Option("--worlds", help="the worlds beyond language, and the methods that each plays")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the methods by the data they need, or show one: choices, formula, defaults and sources, limits, evidence."""
    from equipoise.report.methods.axes import filtered, print_axes
    from equipoise.report.methods.stored import method, methods
    from equipoise.report.methods.text import chosen, print_method, print_methods

    if worlds:
        from equipoise.run.worlds.listing import listed, print_worlds

        show(listed(), as_json, print_worlds)
    elif name:
        show(method(name), as_json, print_method)
    else:
        found = filtered(chosen(methods(), need, reference_free), by or ())
        show(found, as_json, print_axes if axes else print_methods)


def explain(
    what: Annotated[
        str, typer.Argument(metavar="NAME|FORMULA", help="a loss, a formula as 'M(l) -> M(w)', or all")
    ],
    given: Annotated[
        str | None, typer.Option(help="for a formula: the condition under which it is judged")
    ] = None,
    also: Annotated[
        str | None, typer.Option(help="for a formula: rows that count both as won and as lost")
    ] = None,
    against: Annotated[list[str] | None, typer.Option(help="compare with these only")] = None,
    plot: Annotated[Path | None, typer.Option(help="plot which losses are stronger to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Explain a loss in logic: formula, truth table, gradient, blind spots, and which losses are stronger."""
    from equipoise.report.semantics import explanation as semantics
    from equipoise.report.semantics.text import print_everything, print_explained

    every = what == semantics.EVERY
    if every and (given or also or against):
        raise ValueError(
            "--given, --also and --against need a single loss: `all` compares every loss with every other"
        )
    result = semantics.everything() if every else semantics.explain(what, given, also, against or ())
    if plot:
        from equipoise.report.semantics.picture import write_landscape

        write_landscape(semantics.landscape(None if every else result), plot)
    show(result, as_json, print_everything if every else print_explained, picture=plot)
