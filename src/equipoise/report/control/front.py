"""A Pareto front as plain data, printed and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from equipoise.games.mdp import TREASURES, TabularMdp, deep_sea_treasure
from equipoise.games.pareto import Front, discover
from equipoise.policy.files import whole
from equipoise.report.charts.chart import Chart, Line
from equipoise.report.charts.printed import picture
from equipoise.report.numbers import plain
from equipoise.report.sheet import Sheet, print_sheet

KNOWN = dict.fromkeys(TREASURES, (0.0, -50.0))  # the usual reference point of these maps
ARRAYS = ("transition", "reward", "start", "discount")


def found_front(name: str, reference: Sequence[float] | None, **options: Any) -> dict[str, Any]:
    """The front of a map or of an MDP in a file. Raises ValueError for what is neither."""
    mdp = deep_sea_treasure(name) if name in TREASURES else read_mdp(Path(name))
    if reference is None:
        reference = KNOWN.get(name)
    if reference is None:
        rewards = mdp.reward.reshape(-1, mdp.reward.shape[2])
        reference = list(np.minimum(rewards.min(axis=0), 0.0) / (1 - mdp.discount) - 1.0)
    return plain_front(name, discover(mdp, reference=reference, **options))


def read_mdp(path: Path) -> TabularMdp:
    """An MDP from an npz file with transition [S, A, S], reward [S, A, m], start [S] and discount.

    Raises ValueError, naming the file and the reason.
    """
    if path.suffix != ".npz" or not path.is_file():
        raise ValueError(f"{path}: no map ({', '.join(TREASURES)}) and no .npz file of an MDP")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except Exception as error:  # zipfile, numpy: each has its own
        raise ValueError(f"{path} is not an intact npz file of arrays: {error}") from error
    if missing := [key for key in ARRAYS if key not in arrays]:
        raise ValueError(f"{path}: it lacks {', '.join(missing)}; it has {', '.join(arrays) or 'nothing'}")
    try:
        return TabularMdp(
            transition=arrays["transition"].astype(np.float64),
            reward=arrays["reward"].astype(np.float64),
            start=arrays["start"].astype(np.float64),
            discount=float(arrays["discount"]),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def plain_front(name: str, front: Front) -> dict[str, Any]:
    """A front as plain data."""
    return {
        "map": name,
        "reference": front.reference.tolist(),
        "points": front.points.tolist(),
        "stages": [
            {
                "stage": stage.name,
                "points": len(stage.points),
                "hypervolume": stage.hypervolume,
                "expected_utility": stage.expected_utility,
                "sparsity": stage.sparsity,
                "first": stage.points[:, :2].tolist(),
            }
            for stage in front.stages
        ],
        "violation": front.violation,
    }


def print_front(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the course of the search and the front."""
    console = console or Console()
    figures = ("points", "hypervolume", "expected_utility", "sparsity")
    rows = [[stage["stage"], *(plain(float(stage[name])) for name in figures)] for stage in found["stages"]]
    print_sheet(
        Sheet(
            f"{found['map']}: the archive after each stage",
            ("stage", "points", "hypervolume", "expected utility", "sparsity"),
            rows,
            note=f"Hypervolume above {found['reference']}; the largest violation of a constraint is "
            f"{found['violation']:.1g}.",
        ),
        console,
    )
    columns = [f"objective {k + 1}" for k in range(len(found["reference"]))]
    print_sheet(
        Sheet(
            "Pareto front",
            ("point", *columns),
            [[str(k + 1), *map(plain, point)] for k, point in enumerate(found["points"])],
        ),
        console,
    )


def plot_front(found: Mapping[str, Any], path: Path) -> None:
    """Draw the fronts of the first and last stage, and the hypervolume over stages."""
    ends = [found["stages"][0], found["stages"][-1]]
    front = Chart(
        name="front",
        title="Pareto front",
        caption="",
        alt="Returns of the non-dominated policies",
        x_label="objective 1",
        y_label="objective 2",
        whole=False,
        lines=[
            Line(
                name=str(stage["stage"]),
                x=[point[0] for point in stage["first"]],
                y=[point[1] for point in stage["first"]],
                colour=number,
            )
            for number, stage in enumerate(ends)
        ],
    )
    volume = Chart(
        name="hypervolume",
        title="Hypervolume",
        caption="",
        alt="Hypervolume after each stage",
        x_label="round of extension",
        y_label="hypervolume",
        lines=[
            Line(
                name="hypervolume",
                x=list(range(len(found["stages"]))),
                y=[stage["hypervolume"] for stage in found["stages"]],
            )
        ],
    )
    with whole(path) as draft:
        draft.write_bytes(picture([front, volume]))
