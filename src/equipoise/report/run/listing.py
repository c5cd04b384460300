"""Runs under a folder, a line each: method, data, rounds, state, delivered figure, when. Plain files, no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from equipoise.report.labels import label
from equipoise.report.numbers import percent, plain
from equipoise.safe_yaml import load
from equipoise.worlds.folder.manifest import complete_lines

DEEPEST = 3  # folders below the one that is listed
DAMAGED = "damaged"
# what says most first
FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("win_rate", "win rate", percent),
    ("exact_win_rate", "win rate", percent),
    ("accuracy", "accuracy", percent),
    ("kl", "KL", plain),
)


@dataclass(frozen=True)
class Listed:
    """One run, by its path below the folder that is listed. `when`: the last change of its logs, seconds since 1970."""

    folder: str
    method: str
    data: str
    rounds: str
    state: str
    figure: str
    when: float

    @property
    def day(self) -> str:
        """`when` in local time."""
        return datetime.fromtimestamp(self.when).astimezone().strftime("%d %b %H:%M")


def runs(folder: Path) -> list[Listed]:
    """All runs under a folder, the last one first. Raises ValueError if there is no such folder."""
    if not folder.is_dir():
        what = "is a file and no folder of runs" if folder.exists() else "no such folder"
        raise ValueError(f"{folder}: {what}; runs are written to runs/ unless --out says otherwise")
    found = [_listed(config.parent, str(config.parent.relative_to(folder))) for config in _configs(folder)]
    return sorted(found, key=lambda run: -run.when)


def _configs(folder: Path) -> list[Path]:
    """The config.yaml of every run; phases of a run are no runs of their own."""
    patterns = ["/".join([*["*"] * depth, "config.yaml"]) for depth in range(DEEPEST + 1)]
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return [
        path for path in found if path.parent.parent.name != "phases" and (path.parent / ".lock").exists()
    ]


def _listed(folder: Path, name: str) -> Listed:
    try:
        config = load((folder / "config.yaml").read_text(encoding="utf-8"))
        lines = _lines(folder / "evaluation.jsonl")
        summary = _summary(folder / "summary.json")
    except (OSError, ValueError, RecursionError):
        config, lines, summary = None, [], None
    when = max((path.stat().st_mtime for path in folder.glob("*") if path.is_file()), default=0.0)
    if not isinstance(config, dict):
        return Listed(name, "?", "?", "?", DAMAGED, "", when)
    of = _within(config, "play", "rounds")
    done = max((line["round"] for line in lines if isinstance(line.get("round"), int)), default=None)
    state = "finished" if summary is not None else "not begun" if done is None else "not finished"
    shown = done
    if summary and summary.get("left_support"):
        shown = summary.get("delivered")
        state = f"left the support, delivers round {shown}"
    last = next((line for line in lines if line.get("round") == shown), {}) if shown else {}
    return Listed(
        name,
        str(config.get("method", "?")),
        f"world {config['world']}" if config.get("world") else _data(_within(config, "data", "path")),
        f"{done or 0}/{of or '?'}",
        state,
        _figure(last),
        when,
    )


def _summary(path: Path) -> Mapping[str, Any] | None:
    """The summary of a finished run; None before it is one."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found if isinstance(found, Mapping) else None


def _lines(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in complete_lines(path)] if path.exists() else []


def _within(config: Mapping[str, Any], section: str, name: str) -> Any:
    found = config.get(section)
    return found.get(name) if isinstance(found, Mapping) else None


def _data(path: Any) -> str:
    files = path if isinstance(path, list) else []
    names = [str(one.get("path", "?")) if isinstance(one, Mapping) else str(one) for one in files]
    if not names:
        return "built-in game"
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return Path(names[0]).name + more


def _figure(line: Mapping[str, Any]) -> str:
    """The first of FIGURES that was measured."""
    for name, title, show in FIGURES:
        found = line.get(name)
        value = found.get("value") if isinstance(found, Mapping) else found
        if isinstance(value, float):
            return f"{title} {show(value)}"
    measures = line.get("measures")  # of a world beyond language, the most important first
    for name, found in measures.items() if isinstance(measures, Mapping) else ():
        if isinstance(found, Mapping) and isinstance(found.get("value"), float):
            return f"{str(name).replace('_', ' ')} {plain(found['value'])}"
    return ""


def print_runs(found: Sequence[Listed], console: Console) -> None:
    """One line for each run; names are untrusted and carry no markup."""
    if not found:
        console.print("no runs here")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("folder", "method", "data", "rounds", "state", "figure", "when"):
        table.add_column(heading, no_wrap=heading in ("rounds", "when"), overflow="fold")
    for run in found:
        cells = (run.folder, run.method, run.data, run.rounds, run.state, run.figure, run.day)
        table.add_row(*(Text(label(cell, 60)) for cell in cells))
    console.print(table)


def as_json(found: Sequence[Listed]) -> list[dict[str, Any]]:
    """The runs as plain records."""
    return [asdict(run) for run in found]
