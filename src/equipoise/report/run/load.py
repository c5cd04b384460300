"""Run folder -> one typed record. Its files are untrusted; what is missing is noted, not guessed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from equipoise import safe_yaml
from equipoise.worlds.text.folder.journal import LOGS, REPEATED
from equipoise.worlds.text.folder.manifest import DamagedRun, Manifest


class RunFolderError(ValueError):
    """A run folder that cannot be read; the message names file, line and reason."""


class Record(BaseModel):
    """Fields of the wrong type are refused, unknown ones ignored, missing ones null."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class Estimate(Record):
    """A value with its interval; `low` and `high` are null where there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Told(Record):
    """Mean named scores of responses to prompts that told a direction, score -> coordinate."""

    direction: dict[str, float]
    scores: dict[str, Estimate | None] = {}


class Round(Record):
    """One line of evaluation.jsonl; round 0 is the reference. Formulas and units: report/run/metrics.py."""

    round: int
    win_rate: Estimate | None = None
    exact_win_rate: float | None = None
    exploitability: float | None = None
    gap_tau: float | None = None
    kl: Estimate | None = None
    accuracy: Estimate | None = None
    ranking: Estimate | None = None
    ranking_gain: Estimate | None = None
    chosen_log_ratio: float | None = None
    rejected_log_ratio: float | None = None
    chosen_probability: float | None = None
    rejected_probability: float | None = None
    likelihood_ece: float | None = None
    length: Estimate | None = None
    finished: float | None = None
    surprisal: float | None = None
    recorded_surprisal: float | None = None
    recorded_length: float | None = None
    outside: float | None = None
    scores: dict[str, Estimate | None] = {}
    told: list[Told] = []


class Step(Record):
    """One line of metrics.jsonl: one optimizer step. Here a number may be NaN: that is a finding."""

    model_config = ConfigDict(allow_inf_nan=True)

    round: int
    step: int
    epoch: float | None = None
    loss: float | None = None
    margin: float | None = None
    chosen_log_ratio: float | None = None
    rejected_log_ratio: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    pessimism: float | None = None
    baseline: float | None = None
    saturated: float | None = None
    clipped: float | None = None
    reward: float | None = None


class Within(Record):
    """One line of within_fits.jsonl: the policy inside a fit on held-out rows, after a step of a round."""

    round: int
    step: int
    loss: float | None = None
    accuracy: float | None = None
    margin: float | None = None
    chosen_log_ratio: float | None = None
    rejected_log_ratio: float | None = None


class Chosen(Record):
    """The best checkpoint of summary.json; step None: measured after a round."""

    metric: str
    value: float
    better: str
    round: int
    step: int | None = None
    folder: str


class Timing(Record):
    """One line of timings.jsonl: seconds and tokens that one phase of one round took."""

    round: int
    phase: str
    seconds: float
    tokens: float | None = None


class Sample(Record):
    """One line of samples.jsonl: what the policy of one round wrote for one prompt."""

    round: int
    prompt_index: int
    prompt: str
    response: str
    finished: bool | None = None


class Ledger(Record):
    """ledger.json: a row that was read is used, refused for a reason, or a duplicate.

    truncated   used rows with an answer cut; truncated_by_side counts the chosen and the rejected ones.
    """

    read: int
    used: int
    refused: dict[str, int] = {}
    truncated: int = 0
    truncated_by_side: dict[str, int] = {}
    duplicate: int = 0
    repaired: dict[str, int] = {}
    first_lines: dict[str, list[str]] = {}
    notes: list[str] = []

    @property
    def unaccounted(self) -> int:
        return self.read - self.used - self.duplicate - sum(self.refused.values())


class GateLine(Record):
    """One gate of gates.json: what was measured in a round, its limit, and whether it was passed or allowed."""

    name: str
    round: int
    measured: float | None = None
    limit: float | None = None
    passed: bool
    allowed: bool = False
    sentence: str = ""


class Summary(Record):
    """summary.json: who was trained on what, and what it cost."""

    method: str | None = None
    title: str | None = None
    paper: str | None = None
    confidence: str | None = None
    rounds: int | None = None
    delivered: int | None = None
    left_support: str | None = None
    automatic: Any = None
    seed: int | None = None
    model: Any = None
    data: Any = None
    oracle: Any = None
    status: str | None = None
    best: Chosen | None = None
    seconds: dict[str, float] = {}
    tokens: dict[str, float] = {}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder as read. Sequences are in file order, rounds and samples sorted by round.

    notes       what was missing, half-written or repeated, in sentences for the reader of the report.
    processes   the environments of the processes that worked on the run, oldest first; `environment` is the last.
    inputs      kind of input -> name -> hash, from inputs.json.
    """

    folder: Path
    summary: Summary = field(default_factory=Summary)
    rounds: tuple[Round, ...] = ()
    steps: tuple[Step, ...] = ()
    within: tuple[Within, ...] = ()
    timings: tuple[Timing, ...] = ()
    samples: tuple[Sample, ...] = ()
    ledger: Ledger | None = None
    config_text: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    processes: tuple[dict[str, Any], ...] = ()
    gates: tuple[GateLine, ...] = ()
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.summary.method or self.folder.resolve().name

    @property
    def reference(self) -> Round | None:
        """Round 0, if it was evaluated."""
        return self.rounds[0] if self.rounds and self.rounds[0].round == 0 else None

    @property
    def final(self) -> Round | None:
        """The delivered round: the last evaluated one after the reference, unless the run fell back on an earlier."""
        most = (
            self.rounds[-1].round
            if self.summary.delivered is None and self.rounds
            else self.summary.delivered
        )
        return next((one for one in self.rounds if one.round == most and one.round > 0), None)

    def by_phase(self, what: str) -> dict[str, float]:
        """Total "seconds" or "tokens" per phase, from timings.jsonl or else from the summary."""
        if not self.timings:
            return dict(getattr(self.summary, what))
        total: dict[str, float] = {}
        for timing in self.timings:
            total[timing.phase] = total.get(timing.phase, 0.0) + (getattr(timing, what) or 0.0)
        return total


R = TypeVar("R", bound=Record)


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
        # Online runs on a playground read no data, so a missing ledger is nothing to note.
        ledger=_object(folder / "ledger.json", Ledger, []),
        config_text=text,
        config=config,
        environment=processes[-1] if processes else {},
        processes=processes,
        gates=_gates(folder / "gates.json"),
        inputs=_inputs(folder / "inputs.json"),
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
        return json.loads(text, parse_constant=_null(path, notes))
    except (ValueError, RecursionError):
        notes.append(f"{path.name} is not readable JSON; what it holds is left out of this report.")
        return None


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
