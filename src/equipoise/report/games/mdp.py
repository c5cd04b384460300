"""Regret per episode of learners on adversarial MDPs: printed, and as curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from equipoise.policy.files import whole
from equipoise.report.style import CYCLE, FAINT, direct_labels, panels, render, styled


def print_mdp(result: Mapping[str, Any], console: Console) -> None:
    """One row for each learner, one column for each number of episodes."""
    sizes = ", ".join(f"{name} {value}" for name, value in result["mdp"].items())
    console.print(
        f"regret per episode against the best fixed policy: {result['adversary']} losses, mean over "
        f"{result['repeats']} random MDPs ({sizes})",
        highlight=False,
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("learner")
    table.add_column("transitions")
    for episodes in result["episodes"]:
        table.add_column(f"K = {episodes:,}", justify="right", no_wrap=True)
    for one in result["learners"]:
        cells = [
            f"{mean:.3f}" + ("" if error is None else f" ± {error:.3f}")
            for mean, error in zip(one["regret_per_episode"], one["standard_error"], strict=True)
        ]
        table.add_row(one["learner"], one["transitions"], *cells)
    table.add_row("uniform policy", "", *(f"{mean:.3f}" for mean in result["uniform"]))
    console.print(table)
    if result["repeats"] > 1:
        console.print(
            "± is one standard error over MDPs; each K is played in its own tuning", highlight=False
        )


def write_mdp_figure(result: Mapping[str, Any], path: Path) -> None:
    """Draw regret per episode against K to a PNG, written whole or not at all; own paths are dashed."""
    with styled():
        figure, axes = panels(1, height=3.4)
        x, ends = result["episodes"], []
        colours = dict(zip(dict.fromkeys(one["learner"] for one in result["learners"]), CYCLE, strict=False))
        for one in result["learners"]:
            y, own = one["regret_per_episode"], one["transitions"] != "known"
            short = one["learner"].split(", ")[-1] + (", own paths" if own else "")
            colour = colours[one["learner"]]
            axes[0].plot(x, y, color=colour, marker="o", markersize=3, linestyle="--" if own else "-")
            ends.append((x[-1], y[-1], short, colour))
        axes[0].plot(x, result["uniform"], color=FAINT, linewidth=1)
        ends.append((x[-1], result["uniform"][-1], "uniform policy", FAINT))
        axes[0].set_xticks(x, [f"{one:,}" for one in x])
        axes[0].set_xlabel("episodes K")
        axes[0].set_ylabel("regret per episode")
        axes[0].set_title(f"{result['adversary']} losses", loc="left", fontsize=10)
        axes[0].autoscale_view()
        direct_labels(axes[0], ends)
        image = render(figure)
    with whole(Path(path)) as draft:
        draft.write_bytes(image)
