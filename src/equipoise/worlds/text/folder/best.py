"""Best checkpoint of a run by a named metric: checkpoints/best, a whole folder, and what it is in best.json.

What a fit finds best is a candidate, checkpoints/best-candidate, until its round is known to be within the reference's
support: a round that left it never replaces the best checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.policy.files import whole, write_json
from equipoise.worlds.folder.journal import Journal

# metric -> whether higher is better; the first three are measured inside a fit, the others at the ends of rounds
HIGHER = {
    "accuracy": True,
    "margin": True,
    "loss": False,
    "win_rate": True,
    "exact_win_rate": True,
    "exploitability": False,
}
WITHIN_A_FIT = ("accuracy", "margin", "loss")
CANDIDATE = "best-candidate"


@dataclass(frozen=True)
class Best:
    """The best checkpoint, or by its name the candidate; of equal values the earlier one is kept."""

    journal: Journal
    name: str = "best"

    @property
    def folder(self) -> Path:
        return self.journal.checkpoints / self.name

    @property
    def about(self) -> dict[str, Any] | None:
        """{metric, value, better, round, step, folder} of the best checkpoint, or None."""
        path = self._about
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def _about(self) -> Path:
        return self.journal.folder / f"{self.name}.json"

    def is_best(self, metric: str, lines: Iterable[Mapping[str, Any]], line: Mapping[str, Any]) -> bool:
        """Whether a line is the first with the best value of all lines; one without a value never is."""
        values = [(v, each) for each in lines if (v := value_of(metric, each)) is not None]
        if value_of(metric, line) is None:
            return False
        top = (max if HIGHER[metric] else min)(value for value, _ in values)
        return place(next(each for value, each in values if value == top)) == place(line)

    def take(self, made: Path, metric: str, line: Mapping[str, Any]) -> None:
        """Make checkpoints/best of the checkpoint that a line measured: by hard links, which cost no space."""
        with whole(self.folder) as draft:
            shutil.copytree(made, draft, copy_function=_linked)
        self.journal.manifest.record(self.folder)
        write_json(
            self._about,
            {
                "metric": metric,
                "value": value_of(metric, line),
                "better": "higher" if HIGHER[metric] else "lower",
                "round": line["round"],
                "step": line.get("step"),
                "folder": f"checkpoints/{self.folder.name}",
            },
        )

    def accept(self) -> None:
        """Make the candidate, if there is one, the best checkpoint. Interrupted, it may be repeated."""
        candidate = Best(self.journal, CANDIDATE)
        if (about := candidate.about) is None:
            return
        line = {about["metric"]: about["value"], "round": about["round"], "step": about["step"]}
        self.take(candidate.folder, about["metric"], line)
        candidate._about.unlink()
        self.journal.manifest.forget(candidate.folder)
        shutil.rmtree(candidate.folder)


def value_of(metric: str, line: Mapping[str, Any]) -> float | None:
    """A metric of a line; of an estimate its centre."""
    value = line.get(metric)
    return value.get("value") if isinstance(value, Mapping) else value


def place(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """Where in a run a line was measured."""
    return line["round"], line.get("step")


def _linked(source: str, target: str) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
