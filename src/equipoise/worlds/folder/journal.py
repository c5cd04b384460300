"""Journal of a run folder: finished stages, checkpoints and logs, the same for every world that trains."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from equipoise.play.state import POLICY
from equipoise.policy.files import MOMENTS, write_text
from equipoise.worlds.folder.manifest import LOGS, REPEATED, Manifest, append_line, complete_lines

CALLS = ".calls"  # file of a stage's questions, beside it


class Journal:
    """Journal of a run folder: a file that exists is complete; a missing one was not finished.

    What is finished is entered in the manifest, and verified when it is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = folder / "metrics.jsonl"
        self.manifest = Manifest(folder)
        self._verified: set[str] = set()

    def stage(self, round: int, name: str, ending: str = ".parquet") -> Path:
        return self.folder / "rounds" / f"{round:03d}" / f"{name}{ending}"

    def checkpoint(self, round: int, name: str = POLICY) -> Path:
        """Checkpoint of the policy after a round, or of an intermediate policy of that round."""
        own = f"round-{round:03d}" if round else "initial"
        return self.checkpoints / (own if name == POLICY else f"{own}-{name}")

    def note_calls(self, round: int, stage: str, calls: int) -> None:
        """Write how many questions a stage has put to the oracle, before the stage itself; nothing for none."""
        if calls:
            path = self.stage(round, stage).with_suffix(CALLS)
            write_text(path, f"{calls}\n")
            self.manifest.record(path)

    def judge_calls(self, *rounds: int) -> int:
        """Questions that the stages of these rounds have put to the oracle, those of evaluations not among them."""
        files = [path for round in rounds for path in self.stage(round, "any").parent.glob(f"*{CALLS}")]
        for path in files:
            self.manifest.verify(path)
        return sum(int(path.read_text(encoding="utf-8")) for path in files)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def tidy(self, round: int, used: set[str], started: set[str], keep: int | None = None) -> None:
        """Delete intermediate policies that no name refers to any more, and optimizer states that no fit starts from.

        used, started   checkpoints that a name refers to; those among them that a fit may start from.
        keep            rounds whose final policy is kept, the last ones; None: all.
        """
        final = {self.checkpoint(past) for past in range(max(0, round - (keep or round)) + 1, round + 1)}
        for past in range(1 if keep else max(0, round - 1), round + 1):
            for folder in self.checkpoints.glob(f"round-{past:03d}*"):
                if folder.name not in used and folder not in final:
                    self.manifest.forget(folder)
                    shutil.rmtree(folder)
                elif folder.name not in started:
                    self.manifest.forget(folder / MOMENTS)
                    (folder / MOMENTS).unlink(missing_ok=True)

    def settled(self, round: int) -> Path:
        """File that maps policy names to checkpoints after a round; written last, it marks the round as done."""
        return self.folder / "rounds" / f"{round:03d}" / "policies.json"

    @property
    def progress(self) -> Path:
        """Weights and optimizer state in the middle of a fit."""
        return self.folder / "progress.safetensors"

    @property
    def next_progress(self) -> Path:
        """The next position of a fit, until it is entered in the manifest and renamed to `progress`."""
        return self.folder / "progress.next.safetensors"

    def rounds_done(self) -> int:
        done = 0
        while self.settled(done + 1).exists():
            done += 1
        return done

    def append(self, name: str, line: dict[str, Any]) -> None:
        """Append a line to a log; a last line cut short by a crash is dropped first."""
        append_line(self.folder / name, line)

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Complete lines of a log: a last line cut short by a crash is skipped, since its stage is repeated.

        Raises DamagedRun for a line that is not JSON, and if what was written before the last boundary has changed.
        """
        yield from (line for _, line in self._read(name))

    def rewind(self, name: str, round: int, step: int | None = None) -> None:
        """Drop the lines after (round, step), which a resumed run will write again."""
        path, position = self.folder / name, (round, step if step is not None else -1)
        kept = [raw for raw, line in self._read(name) if (line["round"], line.get("step", -1)) <= position]
        text = b"".join(raw + b"\n" for raw in kept)
        if path.exists() and len(text) < path.stat().st_size:
            if name in LOGS:  # before it is cut: in this order a crash leaves a log that begins as recorded
                self.manifest.record_log(path, len(text))
            write_text(path, text.decode())

    def seal(self) -> None:
        """Enter all logs as they are in the manifest: at the end of a round, an evaluation, a saved position."""
        for name in LOGS:
            self.manifest.record_log(self.folder / name)

    def _read(self, name: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
        path = self.folder / name
        if name in LOGS and name not in self._verified:
            self.manifest.verify_log(path, repeated=name in REPEATED)
            self._verified.add(name)
        if path.exists():
            yield from complete_lines(path)
