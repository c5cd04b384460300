"""How long exact games take.

python benchmarks/play.py           measure, write results/play.json, then the section of README.md and the picture
python benchmarks/play.py --draw    write section and picture again from the figures that are there
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import cpu, table
from matplotlib.ticker import FuncFormatter

from equipoise.cli.games.play import one_thread
from equipoise.games import nash, regularised_nash, zoo
from equipoise.games.preference import PreferenceGame
from equipoise.methods.index import get
from equipoise.report.style import CYCLE, direct_labels, panels, render, styled
from equipoise.worlds.table.play_game import play_game

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "play.json"
ACTIONS, GAMES, ROUNDS = (10, 30, 100, 300), (1, 16, 64, 256), (100, 1_000, 10_000)
CLOSED = ("egpo", "onpo", "inpo", "mpo", "sppo", "nash_md")
ENUMERATED = (
    "online_ipo",
    "nash_md_pg",
    "sppo_hard",
)  # no closed form: the objective's gradient, or its minimum
LARGEST = {
    "online_ipo": 1e5,
    "nash_md_pg": 1e5,
    "sppo_hard": 1e4,
}  # games x actions^2 beyond which none is measured
SOLVED = 3e6  # the same for the two solvers
TAU = 0.1
REPEATS, BUDGET = 3, 0.4  # of each cell; seconds that a repeat may take, by the first round's cost
BEGIN, END = "<!-- play.py writes from here -->", "<!-- to here -->"
COMMAND = "play --game random:100:0x64 --method egpo onpo inpo mpo sppo nash_md --rounds 1000 --json"


def best(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Processor seconds of the fastest repeat: what others do on the machine only ever adds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def per_round(game: PreferenceGame, name: str, rounds: int | None = None) -> dict[str, Any]:
    """Seconds a round of one method, its three figures (two gaps and a distance) included."""
    method = get(name)
    method = method.with_parameters(dict(method.exact))

    def run(count: int) -> None:
        play_game(game, method, rounds=count, tau=TAU, target=game.initial())

    rounds = rounds or int(min(200, max(2, BUDGET / best(lambda: run(1), 1))))
    seconds = best(lambda: run(rounds))
    return {
        "method": name,
        "games": game.prompts,
        "actions": game.actions,
        "rounds": rounds,
        "seconds": seconds,
    }


def measure() -> dict[str, Any]:
    rows, solvers = [], []
    with one_thread():
        for actions in ACTIONS:
            for games in GAMES:
                game, entries = zoo.parse(f"random:{actions}:0x{games}"), games * actions**2
                names = [*CLOSED, *(name for name in ENUMERATED if entries <= LARGEST[name])]
                rows += [per_round(game, name) for name in names]
                if entries <= SOLVED:
                    solvers.append(
                        {
                            "games": games,
                            "actions": actions,
                            "nash": best(lambda game=game: nash(game), 2),
                            "regularised_nash": best(lambda game=game: regularised_nash(game, TAU), 2),
                        }
                    )
                print(f"{games} games of {actions} responses", file=sys.stderr)
        small = zoo.parse("random:10:0x16")
        by_rounds = [per_round(small, name, rounds) for name in ("inpo", "egpo") for rounds in ROUNDS]
    program = [sys.executable, "-m", "equipoise.cli.app", *COMMAND.split()]
    before, start = os.times(), time.perf_counter()
    subprocess.run(program, check=True, capture_output=True)
    seconds, after = time.perf_counter() - start, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "command": "python benchmarks/play.py",
        "machine": {
            "cpu": cpu(),
            "cores": os.cpu_count(),
            "platform": f"{platform.system()} {platform.machine()}",
            "load": os.getloadavg(),
        },
        "versions": {name: version(name) for name in ("equipoise", "torch", "numpy", "scipy")}
        | {"python": platform.python_version()},
        "tau": TAU,
        "repeats": REPEATS,
        "per_round": rows,
        "by_rounds": by_rounds,
        "solvers": solvers,
        "whole_command": {"command": f"equipoise {COMMAND}", "seconds": seconds, "processor": processor},
    }


def milliseconds(row: dict[str, Any]) -> float:
    return 1e3 * row["seconds"] / row["rounds"]


def section(found: dict[str, Any]) -> str:
    """What was measured and how, as tables."""
    machine, versions, whole = found["machine"], found["versions"], found["whole_command"]
    names = (*CLOSED, *ENUMERATED)
    cells = {(r["method"], r["games"], r["actions"]): milliseconds(r) for r in found["per_round"]}
    by_rounds = {(r["method"], r["rounds"]): f"{r['seconds']:.3g}" for r in found["by_rounds"]}
    sizes = [(games, actions) for actions in ACTIONS for games in GAMES]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['platform']}; "
        f"{', '.join(f'{name} {v}' for name, v in versions.items())}. Processor time of one thread, the least of "
        f"{found['repeats']} repeats, because other programs used the cores meanwhile (load average "
        f"{machine['load'][1]:.1f}): they cost caches and memory bandwidth, so a free machine is faster.",
        "",
        f"`{whole['command']}` took {whole['processor']:.0f} s of processor time ({whole['seconds']:.0f} s by the "
        "clock under that load), with Python's start, the equilibria and the JSON.",
        "",
        "Milliseconds a round on random games, with the two gaps and the distance to the equilibrium, which are "
        f"computed in each of the first 1,000 rounds. {', '.join(f'`{name}`' for name in CLOSED)} play a closed form; "
        "the others descend or minimise their objective over all pairs of responses. A dash was not measured.",
        "",
        "![Milliseconds a round against responses, a panel for each number of games](results/play.png)",
        "",
        *table(
            ("games x responses", *(f"`{name}`" for name in names)),
            [(f"{g} x {a}", *(figure(cells.get((name, g, a))) for name in names)) for g, a in sizes],
        ),
        "Seconds for many rounds, 16 games of 10 responses:",
        "",
        *table(
            ("method", *(f"{r:,} rounds" for r in ROUNDS)),
            [(f"`{n}`", *(by_rounds[n, r] for r in ROUNDS)) for n in dict.fromkeys(n for n, _ in by_rounds)],
        ),
        "Seconds for the equilibria, which are computed once for all methods: Nash by linear programs, the regularised "
        f"one (tau = {found['tau']:g}) by Newton's method.",
        "",
        *table(
            ("games x responses", "Nash", "regularised Nash"),
            [
                (f"{s['games']} x {s['actions']}", figure(s["nash"]), figure(s["regularised_nash"]))
                for s in found["solvers"]
            ],
        ),
    ]
    return "\n".join(lines)


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def draw(found: dict[str, Any]) -> bytes:
    with styled():
        figure, axes = panels(len(GAMES), height=3.0)
        figure.set_size_inches(9.2, 3.0)
        for panel, games in zip(axes, GAMES, strict=True):
            ends = []
            for name, colour in zip(CLOSED, CYCLE, strict=True):
                rows = [r for r in found["per_round"] if (r["method"], r["games"]) == (name, games)]
                x, y = [r["actions"] for r in rows], [milliseconds(r) for r in rows]
                panel.plot(x, y, "o-", color=colour, linewidth=1.2, markersize=3)
                ends.append((x[-1], y[-1], name, colour))
            panel.set(xscale="log", yscale="log", xticks=ACTIONS, xticklabels=ACTIONS)
            panel.minorticks_off()
            panel.set_title(f"{games} game{'s' if games > 1 else ''}", loc="left", fontsize=9.5)
        for panel in axes[1:]:
            panel.sharey(axes[0])
            panel.tick_params(labelleft=False)
        values = [milliseconds(r) for r in found["per_round"] if r["method"] in CLOSED]
        axes[0].set_ylim(min(values) / 1.5, max(values) * 1.5)
        axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes[0].set_ylabel("milliseconds a round")
        axes[0].set_xlabel("responses")
        direct_labels(axes[-1], ends)
        return render(figure)


if __name__ == "__main__":
    if "--draw" not in sys.argv[1:]:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(measure(), indent=1) + "\n")
    measured = json.loads(RESULTS.read_text())
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{section(measured)}{END}{rest.split(END)[1]}")
    RESULTS.with_suffix(".png").write_bytes(draw(measured))
