"""`equipoise methods` and `equipoise explain`: what each method is, and what its loss wants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Json, show


def methods(
    name: Annotated[str | None, typer.Argument(help="one method, in full")] = None,
    need: Annotated[
        str | None, typer.Option(help="only what needs pairs, unary, lists, scores or online")
    ] = None,
    reference_free: Annotated[
        bool, typer.Option("--reference-free", help="only what reads no frozen policy")
    ] = False,
    as_json: Json = False,
) -> None:
    """The guide: the methods by what they need, or one: choices, formula, defaults and their sources, limits, proof."""
    from equipoise.report.methods import chosen, print_method, print_methods
    from equipoise.report.stored import method, methods

    if name:
        show(method(name), as_json, print_method)
    else:
        show(chosen(methods(), need, reference_free), as_json, print_methods)


def explain(
    what: Annotated[
        str, typer.Argument(metavar="NAME|FORMULA", help="a loss, a formula as 'M(l) -> M(w)', or all")
    ],
    given: Annotated[str | None, typer.Option(help="for a formula: where it is judged")] = None,
    also: Annotated[str | None, typer.Option(help="for a formula: what counts as won and as lost")] = None,
    against: Annotated[list[str] | None, typer.Option(help="compare with these only")] = None,
    plot: Annotated[Path | None, typer.Option(help="draw which losses are stronger to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Say what a loss wants: formula, truth table, gradient, blind spots, and which losses are stronger."""
    from equipoise.report import semantics
    from equipoise.report.semantics_text import print_everything, print_explained

    every = what == semantics.EVERY
    if every and (given or also or against):
        raise ValueError("all losses are compared with all: --given, --also and --against go with one")
    result = semantics.everything() if every else semantics.explain(what, given, also, against or ())
    if plot:
        from equipoise.report.semantics_picture import write_landscape

        write_landscape(semantics.landscape(None if every else result), plot)
    show(result, as_json, print_everything if every else print_explained, picture=plot)
