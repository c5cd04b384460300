"""Integrity of a run folder: the SHA-256 of each finished file (manifest.jsonl), verified when the file is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.policy.files import naming_a_full_disk

# Logs whose beginning is entered in the manifest at every boundary; timings differ from process to process.
WITHIN = "within_fits.jsonl"  # evaluations inside fits
DETAILS = ("verdicts.jsonl", "held_out.jsonl", "win_matrix.jsonl")  # of evaluations
LOGS = ("metrics.jsonl", WITHIN, "evaluation.jsonl", "samples.jsonl", *DETAILS, "checks.jsonl")
# the last boundary's lines are written again if they are missing
REPEATED = ("evaluation.jsonl", "samples.jsonl", *DETAILS)

MANIFEST = "manifest.jsonl"
BLOCK = 2**20


class DamagedRun(ValueError):
    """A file of a run folder is not as it was written; the message names it, and what to do."""


def sha256(path: Path, size: int | None = None) -> str:
    """SHA-256 of a file, or of its first `size` bytes, in blocks."""
    digest, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while block := file.read(BLOCK if left is None else min(BLOCK, left)):
            digest.update(block)
            left = None if left is None else left - len(block)
    return digest.hexdigest()


def append_line(path: Path, line: dict[str, Any], *, durable: bool = False) -> None:
    """Append a JSON line; a last line that was cut short by a crash is dropped first.

    durable    flush it to the disk. Raises DiskFull.
    """
    text = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode()
    with naming_a_full_disk(path), path.open("ab+") as file:
        size = file.tell()
        if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def complete_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Complete JSON lines, with their bytes: a last line without its end (a crash, a power loss) is skipped.

    Raises DamagedRun, with the number of the line, for anything else that is not a JSON object.
    """
    # not splitlines: it would also split inside a text, at U+2028 and the like
    for number, raw in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise DamagedRun(
                f"{path}, line {number}: damaged (not a JSON object); restore the file from a copy, or start "
                "again in another folder"
            )
        yield raw, value


@dataclass
class Manifest:
    """The recorded hashes of a run folder's files.

    A finished file has one line, a folder one for each file in it; a log, which grows, has lines for its beginning.
    A file may be written again with other content (a position in a fit): then it must be as one of its lines says.
    """

    folder: Path
    _size: int = -1
    _hashes: dict[str, set[str]] = field(default_factory=dict)
    _logs: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    _verified: dict[Path, tuple[int, ...]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / MANIFEST

    def record(self, path: Path, *, name: Path | None = None) -> None:
        """Enter a finished file or folder, under the name that it will have if it is to be renamed."""
        self._read()
        for file in _files(path):
            own = self._name(file if name is None else name)
            digest = sha256(file)
            if digest not in self._hashes.get(own, ()):
                self._add({"file": own, "sha256": digest})

    def ensure(self, path: Path) -> None:
        """Enter a file that is whole, if the process that wrote it ended before it could."""
        self._read()
        for file in _files(path):
            if self._name(file) not in self._hashes:
                self.record(file)

    def forget(self, path: Path) -> None:
        """Drop a file or folder that is deleted."""
        self._read()
        own = self._name(path)
        for name in [n for n in self._hashes if n == own or n.startswith(f"{own}/")]:
            self._add({"file": name, "sha256": None})

    def hashes(self, name: str) -> tuple[str, ...]:
        """The recorded hashes of a file, by its path in the run folder; none if it is not recorded."""
        self._read()
        return tuple(sorted(self._hashes.get(name, ())))

    def record_log(self, path: Path, size: int | None = None) -> None:
        """Enter the beginning of a log, up to `size` bytes or its end: what is written later comes after it."""
        self._read()
        if not path.exists():
            return
        with path.open("rb") as file:
            os.fsync(file.fileno())  # the manifest must not outlive what it speaks of
        size = path.stat().st_size if size is None else size
        entry = (size, sha256(path, size))
        if self._logs.get(self._name(path), [])[-1:] != [entry]:
            self._add({"file": self._name(path), "size": size, "sha256": entry[1]})

    def verify(self, path: Path) -> None:
        """Raises DamagedRun if a recorded file, or one in a recorded folder, is missing or has other content.

        A file is read once in a process, unless it is written again.
        """
        self._read()
        own = self._name(path)
        for name in [n for n in self._hashes if n == own or n.startswith(f"{own}/")]:
            file = self.folder / name
            if not file.is_file():
                raise DamagedRun(f"{file} is missing: {_remedy(name)}")
            stat = file.stat()
            seen = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            if self._verified.get(file) == seen:
                continue
            if sha256(file) not in self._hashes[name]:
                raise DamagedRun(f"{file} is not as it was written (its SHA-256 differs): {_remedy(name)}")
            self._verified[file] = seen

    def verify_log(self, path: Path, *, repeated: bool = False) -> None:
        """Raises DamagedRun if the recorded beginning of a log has changed.

        repeated    what was written since the last boundary but one will be written again if it is missing, so that a
                    log that was cut there is whole.
        """
        self._read()
        entries = [(0, ""), *self._logs.get(self._name(path), [])]
        there = path.read_bytes().rfind(b"\n") + 1 if path.is_file() else 0
        whole = [index for index, (size, _) in enumerate(entries) if size <= there]
        size, digest = entries[whole[-1]]
        if len(entries) - len(whole) > repeated or (size and sha256(path, size) != digest):
            raise DamagedRun(
                f"{path} is not as it was written (the SHA-256 of its first {entries[-1][0]:,} bytes differs): "
                "restore it from a copy, or start again in another folder"
            )

    def _name(self, path: Path) -> str:
        """The path in the run folder; of a file elsewhere, which the manifest does not speak of, the whole path."""
        inside = path.is_relative_to(self.folder)
        return (path.relative_to(self.folder) if inside else path.absolute()).as_posix()

    def _add(self, line: dict[str, Any]) -> None:
        append_line(self.path, line, durable=True)
        self._read()

    def _read(self) -> None:
        """Read the lines again if there are new ones, written here or by another process."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == self._size:
            return
        self._hashes, self._logs, self._size = {}, {}, size
        for raw, line in complete_lines(self.path) if size else ():
            name, digest = line.get("file"), line.get("sha256")
            if not isinstance(name, str) or not isinstance(digest, str | None):
                raise DamagedRun(f"{self.path}: damaged, at {raw[:60]!r}; restore it from a copy")
            if digest is None:
                self._hashes.pop(name, None)
            elif "size" in line:
                shorter = [entry for entry in self._logs.get(name, []) if entry[0] < line["size"]]
                self._logs[name] = [*shorter, (int(line["size"]), digest)]
            else:
                self._hashes.setdefault(name, set()).add(digest)


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]


def _remedy(name: str) -> str:
    """What to do about a damaged file, by what it holds: stages are functions of what came before them."""
    parts = name.split("/")
    if parts[0] in ("anchors", "kept"):
        return "delete it and repeat the command: it is computed again"
    if parts[0] == "progress.safetensors":
        return "delete it and repeat the command: the fit of this round starts again"
    if parts[0] == "rounds":
        return (
            "if its round is not finished (no policies.json next to it), delete it and repeat the command: it is "
            "computed again; else restore it from a copy"
        )
    if parts[0] == "checkpoints" and parts[1].startswith("round-") and parts[1][6:].isdigit():
        round = parts[1][6:]
        return (
            f"restore it from a copy; or, if it is the last round's, delete checkpoints/{parts[1]} and "
            f"rounds/{round}/policies.json and repeat the command: that round is trained again"
        )
    return "restore it from a copy, or start again in another folder"
