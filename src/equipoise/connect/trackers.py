"""Experiment trackers (trackio, Weights & Biases, TensorBoard) as callbacks of a run; the run folder stays the truth.

Figures are named train/NAME (an optimizer step), held_out/NAME (an evaluation inside a fit) and round/NAME (after a
round); those of a phase before the rounds have its name in front. The axis is the run's number of optimizer steps.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from equipoise.worlds.text.progress import Callback, Line

PROJECT = "equipoise"
PLACE = ("round", "step", "fit", "epoch")  # entries of a line that say where it belongs


class Sink(Protocol):
    """What a tracker does with figures."""

    def log(self, figures: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class Trackio:
    """trackio: local first; `trackio show` opens its dashboard."""

    needs = "trackio"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.library = import_module("trackio")
        with redirect_stdout(sys.stderr):  # what a command prints is its result
            self.run = self.library.init(
                project=PROJECT,
                name=folder.resolve().name,
                config=dict(settings),
                resume="allow",
                embed=False,
            )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log(dict(figures), step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self.library.finish()


class WeightsAndBiases:
    """Weights & Biases: in the folder `wandb` of the run; where it sends to is wandb's own setting."""

    needs = "wandb"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.run = import_module("wandb").init(
            project=PROJECT,
            name=folder.resolve().name,
            config=dict(settings),
            dir=str(folder),
            reinit="create_new",
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log(dict(figures), step=step)

    def close(self) -> None:
        self.run.finish()


class TensorBoard:
    """TensorBoard: event files in the folder `tensorboard` of the run."""

    needs = "tensorboard"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        self.writer = writer(log_dir=str(folder / "tensorboard"))
        self.writer.add_text(
            "settings", "\n".join(f"    {name}: {value}" for name, value in settings.items())
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


SINKS: Mapping[str, Any] = {"trackio": Trackio, "wandb": WeightsAndBiases, "tensorboard": TensorBoard}


def check_installed(names: Sequence[str]) -> None:
    """Raises ValueError, with the command that installs it, for a tracker whose library is not there."""
    for name in names:
        if find_spec(SINKS[name].needs) is None:
            raise ValueError(
                f"track: {name} is not installed; install it with: pip install 'equipoise[track]'"
                + (" wandb" if name == "wandb" else "")
            )


class Tracker(Callback):
    """Hands the figures of a run to a tracker, which is opened when the run begins.

    open   (run folder, settings by dotted name) -> the tracker
    """

    def __init__(self, open: Callable[[Path, Mapping[str, Any]], Sink]) -> None:
        self.open = open
        self.sink: Sink | None = None
        self.folder = Path()
        self.prefix = ""
        self.before = 0  # optimizer steps of earlier phases
        self.fit: tuple[Any, Any] | None = None
        self.offset = 0  # optimizer steps of earlier fits
        self.last = 0

    def run_started(self, about: Line) -> None:
        self.folder = Path(about["folder"])
        self.prefix = f"{about['phase']}/" if about.get("phase") else ""
        self.before, self.fit = self.last, None
        if self.sink is None:
            root = self.folder.parent.parent if about.get("phase") else self.folder  # RUN/phases/NAME
            self.sink = self.open(root, dict(_flat(about["settings"])))

    def step(self, line: Line) -> None:
        fit = (line["round"], line.get("fit"))
        if fit != self.fit:
            self.fit, self.offset = fit, self.before + _steps_before(self.folder, fit)
        self.last = self.offset + int(line["step"])
        self._log("train", line)

    def evaluated(self, line: Line) -> None:
        self._log("held_out", line)

    def round_done(self, line: Line) -> None:
        self._log("round", line)

    def close(self) -> None:
        """End the tracker's record, however the run ended."""
        if self.sink is not None:
            self.sink.close()
            self.sink = None

    def _log(self, kind: str, line: Line) -> None:
        figures = {f"{self.prefix}{kind}/{name}": value for name, value in _figures(line)}
        if figures and self.sink is not None:
            self.sink.log(figures, self.last)


def tracker(name: str) -> Tracker:
    """The tracker of this name."""
    return Tracker(SINKS[name])


def _figures(line: Line) -> Iterator[tuple[str, float]]:
    """The finite numbers of a line; of an estimate its value."""
    for name, value in line.items():
        number = value.get("value") if isinstance(value, Mapping) else value
        if name in PLACE or isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if math.isfinite(number):
            yield name, float(number)


def _steps_before(folder: Path, fit: tuple[Any, Any]) -> int:
    """Optimizer steps that the run's log has of earlier fits: a resumed run goes on where it was."""
    log = folder / "metrics.jsonl"
    if not log.is_file():
        return 0
    known = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}"))
    return sum((line["round"], line.get("fit")) != fit for line in known)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            plain = value is None or isinstance(value, bool | int | float | str)
            yield f"{prefix}{name}", value if plain else str(value)
