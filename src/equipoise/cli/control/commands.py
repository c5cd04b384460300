"""`equipoise pareto` and `equipoise elicit`: fronts of several rewards, and queries about preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Json, show


def pareto(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MAP", help="concave or convex (deep sea treasure), or an .npz file of an MDP"
        ),
    ] = "concave",
    weights: Annotated[int, typer.Option(min=2, help="linear preferences of the first stage")] = 201,
    rounds: Annotated[int, typer.Option(min=0, help="rounds of constrained extension")] = 4,
    select: Annotated[int, typer.Option(min=1, help="points extended in a round")] = 5,
    beta: Annotated[
        float, typer.Option(help="1 - beta of an objective's range is the slack of a constraint")
    ] = 0.9,
    reference: Annotated[
        str | None, typer.Option(help="reference point of the hypervolume, as 0,-50; none: below the front")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="plot the front and its hypervolume to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Find the Pareto front of an MDP with several rewards by constrained optimisation (C-MORL), exactly."""
    from equipoise.report.control.front import found_front, plot_front, print_front

    point = [float(part) for part in reference.split(",")] if reference else None
    found = found_front(name, point, weights=weights, rounds=rounds, select=select, beta=beta)
    if plot:
        plot_front(found, plot)
    show(found, as_json, print_front, picture=plot)


def elicit(
    arms: Annotated[int, typer.Option(min=3, help="arms of the star MDP")] = 12,
    queries: Annotated[int, typer.Option(min=1, help="preference queries")] = 20,
    seeds: Annotated[int, typer.Option(min=2, help="independent MDPs")] = 30,
    seed: Annotated[int, typer.Option(help="the first seed")] = 0,
    transition_penalty: Annotated[float, typer.Option(min=0, help="pessimism about transitions")] = 1.0,
    reward_penalty: Annotated[float, typer.Option(min=0, help="pessimism about rewards")] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="plot the regret over queries to a PNG")] = None,
    as_json: Json = False,
) -> None:
    """Compare ways to ask for preferences in offline RL (Sim-OPRL, 2406.18450): queries against regret."""
    from equipoise.report.control.queries import compared, plot_queries, print_queries

    found = compared(
        arms,
        queries,
        range(seed, seed + seeds),
        transition_penalty=transition_penalty,
        reward_penalty=reward_penalty,
    )
    if plot:
        plot_queries(found, plot)
    show(found, as_json, print_queries, picture=plot)
