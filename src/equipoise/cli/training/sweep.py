"""`equipoise align --sweep`: one run after another, then their comparison."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from equipoise.cli.failures import LEFT_SUPPORT, explains_itself, message_of


def run_all(
    method: str, swept: Sequence[str], out: Path | None, settings: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Run every combination in its folder; one that is refused or fails is told, and the others go on.

    The same command resumes. Exits with code 2 if a combination has no result, with 3 if one has
    left the support of its reference.
    """
    from equipoise.report.comparison.page import write_comparison
    from equipoise.report.run.listing import print_runs, runs
    from equipoise.run.session import align
    from equipoise.run.sweep import combinations, folder_name, parse

    folder, todo = out or Path("runs") / f"{method}-sweep", combinations(parse(swept))
    done, failed, left = [], [], []
    for place, combination in enumerate(todo, start=1):
        name = folder_name(combination)
        print(f"run {place} of {len(todo)}: {name}", file=sys.stderr, flush=True)
        try:
            made = align(method, out=folder / name, settings={**settings, **combination}, **given)
        except Exception as error:
            if not explains_itself(error):
                raise
            print(f"error: {message_of(error)}", file=sys.stderr)
            failed.append(name)
        else:
            done.append(made.folder)
            left += [name] if "left_support" in made.summary else []
    if done:
        print_runs([run for run in runs(folder) if folder / run.folder in done], Console())
        print(f"comparison  {write_comparison(done, folder / 'comparison.html')}")
    if failed:
        print(f"no result: {'; '.join(failed)}", file=sys.stderr)
        raise typer.Exit(2)
    if left:
        print(f"left the support of the reference: {'; '.join(left)}", file=sys.stderr)
        raise typer.Exit(LEFT_SUPPORT)
