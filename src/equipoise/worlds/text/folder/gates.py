"""Gates of a run: named checks with a measured value and a limit, recorded in gates.json; closed ones end the run."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.policy.files import write_json
from equipoise.policy.protocol import Measured
from equipoise.safe_text import hanging
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.text.folder.gate_list import GATES

FILE = "gates.json"
WORDS = 12  # columns before the words of a printed line


class GateClosed(TrainingError):
    """A gate is closed and not allowed; the message says what was measured, what to do, and how to go on regardless."""


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The gates of a run folder, and those that the user allows to be closed.

    main    whether this process writes; every process judges in the same way.
    """

    folder: Path
    allowed: Collection[str] = ()
    main: bool = True
    quiet: bool = False

    def judge(self, found: Measured, round: int = 0) -> None:
        """Record what was measured. Raises GateClosed if the gate refuses and is not allowed."""
        gate = GATES[found.name]
        allowed = found.name in self.allowed
        if self.main:
            self.record(found, round)
        if found.passed:
            return
        if gate.refuses and not allowed:
            raise GateClosed(f"{found.sentence}; {gate.remedy}, or go on regardless with --allow {gate.name}")
        if self.main and not self.quiet:
            word = "allowed " if allowed else "warning "
            print(hanging(f"  {word}  {found.sentence}; {gate.remedy}", WORDS), file=sys.stderr)

    def record(self, found: Measured, round: int = 0) -> None:
        """Write one line of gates.json; a repeated one replaces the earlier."""
        path = self.folder / FILE
        line: dict[str, Any] = {
            "name": found.name,
            "round": round,
            "measured": found.measured
            if found.measured is not None and math.isfinite(found.measured)
            else None,
            "limit": found.limit,
            "passed": found.passed,
            "allowed": not found.passed and found.name in self.allowed,
            "sentence": found.sentence,
        }
        kept = {(one["round"], one["name"]): one for one in read(path)}
        kept[round, found.name] = line
        write_json(path, [kept[key] for key in sorted(kept)])


def read(path: Path) -> list[dict[str, Any]]:
    """The recorded gates of a run; none if there is no file. Raises ValueError for a damaged one."""
    if not path.exists():
        return []
    try:
        lines = json.loads(path.read_bytes())
        return [line for line in lines if (line["round"], line["name"]) is not None]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and repeat the command") from error
