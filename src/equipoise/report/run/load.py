"""Run folder -> one typed record. Its files are untrusted; what is missing is noted, not guessed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from equipoise import safe_yaml
from equipoise.report.run.records import (
    Estimate,
    GateLine,
    HeldPair,
    Ledger,
    MatrixCell,
    Record,
    Round,
    Run,
    Sample,
    Step,
    Summary,
    Timing,
    Verdict,
    Within,
)
from equipoise.worlds.folder.manifest import LOGS, REPEATED, DamagedRun, Manifest

__all__ = ("Estimate", "Round", "Run", "RunFolderError", "Sample", "Step", "load_run")


class RunFolderError(ValueError):
    """A run folder that cannot be read; the message names file, line and reason."""


R = TypeVar("R", bound=Record)
DIAGNOSIS = "diagnosis.json"  # of the run's pairs
DEEPEST = 50  # levels of a document


def load_run(folder: str | Path) -> Run:
    """Read a run folder.

    A missing file, a last line cut short by an interruption and a number that is not finite become notes.
    Raises RunFolderError for a folder that holds no run, a broken line elsewhere, text that is not UTF-8,
    a field of the wrong type, or a log that is not as the run wrote it.
    """
    folder = Path(folder)
    if not any((folder / name).is_file() for name in ("summary.json", "config.yaml", "evaluation.jsonl")):
        raise RunFolderError(
            f"{folder} is not a run folder: it holds none of summary.json, config.yaml, evaluation.jsonl"
        )
    notes: list[str] = []
    text, config = _config(folder / "config.yaml", notes)
    processes = _processes(folder / "environment.json", notes)
    _verify(folder)
    return Run(
        folder=folder,
        summary=_object(folder / "summary.json", Summary, notes) or Summary(),
        rounds=_latest(_lines(folder / "evaluation.jsonl", Round, notes), lambda r: (r.round,), notes),
        steps=tuple(_lines(folder / "metrics.jsonl", Step, notes)),
        within=tuple(_lines(folder / "within_fits.jsonl", Within, [])),  # most runs have none
        timings=tuple(_lines(folder / "timings.jsonl", Timing, notes)),
        samples=_latest(
            _lines(folder / "samples.jsonl", Sample, notes), lambda s: (s.prompt_index, s.round), notes
        ),
        # Runs of before these logs, and without an oracle or pairs, have none.
        verdicts=_latest(
            _lines(folder / "verdicts.jsonl", Verdict, []),
            lambda v: (v.round, v.prompt_index, v.sample),
            notes,
        ),
        held_out=_latest(_lines(folder / "held_out.jsonl", HeldPair, []), lambda h: (h.round, h.pair), notes),
        matrix=_latest(
            _lines(folder / "win_matrix.jsonl", MatrixCell, []), lambda m: (m.round, m.against), notes
        ),
        # Online runs on a playground read no data, so a missing ledger is nothing to note.
        ledger=_object(folder / "ledger.json", Ledger, []),
        config_text=text,
        config=config,
        environment=processes[-1] if processes else {},
        processes=processes,
        gates=_gates(folder / "gates.json"),
        inputs=_inputs(folder / "inputs.json"),
        diagnosis=_diagnosis(folder / DIAGNOSIS, notes),
        notes=tuple(notes),
    )


def _read(path: Path, notes: list[str]) -> str | None:
    if not path.is_file():
        notes.append(f"{path.name} is missing; what it holds is left out of this report.")
        return None
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunFolderError(f"{path}: not UTF-8 text ({error})") from None


def _document(path: Path, notes: list[str]) -> Any:
    text = _read(path, notes)
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_null(path, notes))
        _check_depth(value)
    except (ValueError, RecursionError):
        notes.append(f"{path.name} is not readable JSON; what it holds is left out of this report.")
        return None
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
        if not level:
            return
    raise ValueError(f"nested in more than {DEEPEST} levels")


def _verify(folder: Path) -> None:
    """Check the logs against the run's manifest, where there is one."""
    manifest = Manifest(folder)
    try:
        for name in LOGS:
            manifest.verify_log(folder / name, repeated=name in REPEATED)
    except (DamagedRun, OSError) as error:
        raise RunFolderError(str(error)) from None


def _processes(path: Path, notes: list[str]) -> tuple[dict[str, Any], ...]:
    stored = _document(path, notes)
    listed = stored if isinstance(stored, list) else [stored]
    return tuple(entry for entry in listed if isinstance(entry, dict))


def _gates(path: Path) -> tuple[GateLine, ...]:
    stored = _document(path, []) if path.is_file() else None
    return tuple(_typed(GateLine, line, str(path)) for line in (stored if isinstance(stored, list) else []))


def _diagnosis(path: Path, notes: list[str]) -> dict[str, Any] | None:
    stored = _document(path, notes) if path.is_file() else None
    return stored if isinstance(stored, dict) else None


def _inputs(path: Path) -> dict[str, dict[str, str]]:
    stored = _document(path, []) if path.is_file() else None
    kinds = stored.get("inputs") if isinstance(stored, dict) else None
    return {
        str(kind): {str(name): str(value) for name, value in named.items()}
        for kind, named in (kinds if isinstance(kinds, dict) else {}).items()
        if isinstance(named, dict)
    }


def _object(path: Path, record: type[R], notes: list[str]) -> R | None:
    value = _document(path, notes)
    return None if value is None else _typed(record, value, str(path))


def _lines(path: Path, record: type[R], notes: list[str]) -> Iterator[R]:
    text = _read(path, notes)
    lines = text.split("\n") if text else []
    constant = float if record is Step else _null(path, notes)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_constant=constant)
        except (ValueError, RecursionError) as error:
            # Every whole line ends in a newline, so an unfinished last line is an interrupted write.
            if number == len(lines):
                notes.append(
                    f"{path.name}: the last line is cut short and was left out (an interrupted run)."
                )
                return
            raise RunFolderError(f"{path}, line {number}: not JSON ({error})") from None
        yield _typed(record, value, f"{path}, line {number}")


def _null(path: Path, notes: list[str]) -> Callable[[str], None]:
    def constant(name: str) -> None:
        note = f"{path.name}: a value is {name}, not a number; it is shown as missing."
        if note not in notes:
            notes.append(note)

    return constant


def _typed(record: type[R], value: Any, where: str) -> R:
    try:
        return record.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "value"
        raise RunFolderError(f"{where}: {place}: {first['msg']}") from None


def _latest(records: Iterator[R], key: Callable[[R], tuple[int, ...]], notes: list[str]) -> tuple[R, ...]:
    """Records sorted by key; of repeated keys (a resumed run) the last one written counts."""
    latest: dict[tuple[int, ...], R] = {}
    repeated = 0
    for one in records:
        repeated += key(one) in latest
        latest[key(one)] = one
    if repeated:
        kind = type(next(iter(latest.values()))).__name__.lower()
        notes.append(f"{repeated} repeated {kind} line(s): the last one written counts.")
    return tuple(latest[k] for k in sorted(latest))


def _config(path: Path, notes: list[str]) -> tuple[str, dict[str, Any]]:
    """The file's text and its mapping."""
    text = _read(path, notes)
    if text is None:
        return "", {}
    try:
        value = safe_yaml.load(text, aliases=False)
    except ValueError:
        notes.append("config.yaml is not readable; its text is shown as it stands.")
        return text, {}
    return text, value if isinstance(value, dict) else {}
