"""Training runs: `align` goes from a method's name to a finished run folder; the same call resumes it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.utils.logging import disable_progress_bar

from equipoise.evaluate.text import Evaluator
from equipoise.play.method import Method
from equipoise.play.round import play
from equipoise.play.state import State
from equipoise.policy import load_gate
from equipoise.policy.export import dtype_of, export
from equipoise.policy.files import write_json, write_text
from equipoise.report.page import write_report
from equipoise.run.assembly import build, describe, launch
from equipoise.run.config import ConfigError, RunConfig, difference, read_file, resolve
from equipoise.run.materials import PLAYGROUND_PAIRS, Materials, gather
from equipoise.run.phases import configuration, phases_of
from equipoise.worlds.text.journal import Journal
from equipoise.worlds.text.progress import Progress
from equipoise.worlds.text.world import TextWorld

VERSIONED = ("equipoise", "torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "safetensors")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its summary (as in summary.json), and its report page."""

    folder: Path
    summary: Mapping[str, Any]
    report: Path

    @property
    def checkpoint(self) -> Path:
        """The last round's policy, a Hugging Face folder."""
        return Journal(self.folder).checkpoint(self.summary["rounds"])


def align(
    method: str,
    *,
    model: str | Path | None = None,
    data: str | Path | list[str | Path] | None = None,
    oracle: str | None = None,
    rounds: int | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Run:
    """Align a language model with a method; see `equipoise methods` for their names.

    model     checkpoint folder or hub name      data    file(s) of feedback or prompts
    oracle    module:function, file.py:function or a reward model's folder
    out       run folder; the same call on an existing folder resumes it, bit for bit on CPU
    config    YAML file of settings; `settings`, by dotted or short name, override it

    With neither model nor data the built-in language game is played.

    Raises ConfigError, DataError, OracleError or ModelError before compute is spent, each saying what to do, and
    TrainingError if training cannot continue. A folder with another configuration is refused.
    """
    paths = [str(p) for p in ([data] if isinstance(data, str | Path) else data or [])]
    stored = read_file(Path(config)) if config else {}
    stored.pop("inputs", None)  # present in a run folder's config.yaml
    resolved = resolve(
        method,
        stored,
        {
            "model.path": str(model) if model else None,
            "data.path": paths or None,
            "oracle": oracle,
            "play.rounds": rounds,
            "seed": seed,
        },
        settings or {},
    )
    folder = Path(out) if out else Path("runs") / f"{method}-{resolved.hash()[:8]}"
    return run(resolved, folder, quiet=quiet)


def run(config: RunConfig, folder: Path, *, start: Path | None = None, quiet: bool = False) -> Run:
    """Play a resolved configuration in a folder, from wherever that folder stands.

    start   a checkpoint of the same model, which the run starts from; None: the model as it was given.
    """
    phases = {phase.name: configuration(config, phase) for phase in phases_of(config)}
    accelerator = launch()
    main = accelerator.is_main_process
    with accelerator.main_process_first():
        if main:
            claim(config, folder)
    with locked(folder):
        disable_progress_bar()
        torch.set_flush_denormal(True)  # denormal gradients of saturated pairs are slow on a CPU
        with accelerator.main_process_first():
            materials = gather(config, folder)
        journal = Journal(folder)
        if not journal.checkpoint(0).exists():
            for name, phase in phases.items():
                start = run(phase, folder / "phases" / name, start=start, quiet=quiet).checkpoint
        if main and materials.dataset is not None:
            write_json(folder / "ledger.json", materials.dataset.ledger.as_json())
        if main:
            write_json(folder / "environment.json", _environment())
        progress = Progress(_timer(journal) if main else None, quiet=quiet or not main)
        world, evaluator = build(config, materials, folder, progress, accelerator, start)
        if main and not quiet:
            _announce(materials, world, folder)
        method = materials.method
        state = world.begin(method.update.memory, keep_past=method.asks_the_past)
        if main and state.round == 1:
            load_gate.judge(folder, "saved", load_gate.as_saved(world.policy, journal.checkpoint(0)))
        play(method, world, state, lambda s: _measure(s, journal, evaluator, config))
        if main:
            _export(config, world, journal)
        accelerator.wait_for_everyone()
        summary = _summary(config, materials.method, journal)
        if main:
            write_json(folder / "summary.json", summary | ({"phases": list(phases)} if phases else {}))
            write_report(folder)
        return Run(folder, summary, folder / "report.html")


def claim(config: RunConfig, folder: Path) -> None:
    """Write the configuration into a new folder, or check that an existing folder has the same one.

    A folder of a run that was refused before its policy was written is reused. Raises ConfigError, with the
    differences, if the folder has another configuration, or if it is not a run folder.
    """
    stored = folder / "config.yaml"
    plain = config.plain() | {"inputs": _inputs(config)}
    if stored.exists():
        changed = difference(read_file(stored), plain)
        if not changed:
            return
        if Journal(folder).checkpoint(0).exists():
            lines = "\n  ".join(changed)
            raise ConfigError(
                f"{folder} has a run with other settings:\n  {lines}\n"
                "resume it with the same settings, or choose another folder"
            )
        (folder / PLAYGROUND_PAIRS).unlink(missing_ok=True)
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and is not a run folder; choose another")
    write_text(stored, yaml.safe_dump(plain | {"hash": config.hash()}, sort_keys=False, allow_unicode=True))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """File lock of a run folder, for one process group at a time; released when the process ends, for any reason."""
    with (folder / ".lock").open("w") as file:
        if int(os.environ.get("RANK", "0")) == 0:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f"another process is running in {folder}; choose another folder") from error
        yield


def _measure(state: State, journal: Journal, evaluator: Evaluator, config: RunConfig) -> None:
    """Evaluate a round boundary once; its line in evaluation.jsonl, written last, marks it as done."""
    done = state.round - 1
    if done % config.evaluate.every and done != config.play.rounds:
        return
    if any(line["round"] == done for line in journal.lines("evaluation.jsonl")):
        return
    if not evaluator.world.accelerator.is_main_process:
        return
    line, sampled = evaluator.measure(state)
    for name in ("samples.jsonl", "evaluation.jsonl"):
        journal.rewind(name, done - 1)
    for index in range(min(config.evaluate.shown, len(sampled))):
        response = sampled.responses[index, 0]
        shown = {
            "prompt": sampled.prompts[index].text,
            "response": response.text,
            "finished": response.finished,
        }
        journal.append("samples.jsonl", {"round": done, "prompt_index": index, **shown})
    journal.append("evaluation.jsonl", line)


def _export(config: RunConfig, world: TextWorld, journal: Journal) -> None:
    """Write the last policy in the dtype that model.export asks for, unless it is there."""
    start, target = world.policy.start, journal.folder / "export"
    if start is None or start.adapted or target.exists():
        return
    dtype = dtype_of(config.model.export, start.chain.base.dtype)
    if dtype is not None:
        given = start.chain.base.tensors if config.model.export == "auto" else None
        export(journal.checkpoint(config.play.rounds), target, dtype, given)


def _summary(config: RunConfig, method: Method, journal: Journal) -> dict[str, Any]:
    lines = {line["round"]: line for line in journal.lines("evaluation.jsonl")}
    first, last = lines[0], lines[method.rounds]
    phases: dict[str, dict[str, float]] = {"seconds": {}, "tokens": {}}
    for line in journal.lines("timings.jsonl"):
        for kind, total in phases.items():
            total[line["phase"]] = total.get(line["phase"], 0) + line[kind]
    gap = first["exploitability"]
    return {
        "method": method.name,
        "title": method.title,
        "paper": method.paper,
        "confidence": method.confidence,
        "rounds": method.rounds,
        "seed": config.seed,
        "win_rate": last["win_rate"],
        "exact_win_rate": last["exact_win_rate"],
        "exploitability": None if gap is None else {"reference": gap, "final": last["exploitability"]},
        "kl": last["kl"],
        "exact_kl": last["exact_kl"],
        "accuracy": last["accuracy"],
        "length": last["length"],
        "step_zero_log_ratio_per_token": max(
            (line["step_zero_log_ratio_per_token"] for line in journal.lines("checks.jsonl")), default=None
        ),
        **phases,
        "model": config.model.path or "playground",
        "data": config.data.path or "playground",
        "oracle": config.oracle or ("playground" if config.playground else None),
        "hash": config.hash(),
        "status": "finished",
    }


def _announce(materials: Materials, world: TextWorld, folder: Path) -> None:
    """Print the run's banner to stderr, before the first step."""
    about = describe(materials, world)
    method = materials.method
    say = [
        f"{method.title} ({method.name}, {method.paper or 'no paper'}; formula: {method.confidence})",
        f"  players   {method.players.describe()}; pairs: {method.pairing.describe()}; {method.rounds} rounds",
        f"  model     {about['parameters']:,} parameters, {about['trained_parameters']:,} trained, "
        f"{world.policy.precision} on {world.policy.device}, learning rate {about['lr']:g}",
        *(f"  start     {said}" for said in world.policy.notes()),
        f"  data      {about['prompts']:,} prompts ({about['held_out_prompts']:,} held out), "
        + (f"{about['comparisons']:,} recorded {_recorded(materials)}, " if about["comparisons"] else "")
        + f"{about['tokens']:,} tokens, longest row {about['longest_row']:,}",
        f"  memory    about {about['training_bytes'] / 2**20:,.0f} MiB for weights, gradients and optimizer"
        + (
            f"; about {about['seconds_per_round']:,.0f} s of training a round"
            if about["seconds_per_round"]
            else ""
        ),
        f"  folder    {folder}",
    ]
    if materials.dataset is not None:
        say.insert(3, "  ledger    " + ", ".join(f"{name} {count:,}" for name, count in _counts(materials)))
        say[4:4] = [f"  note      {note}" for note in materials.dataset.notes]
    print("\n".join(say), file=sys.stderr)


def _recorded(materials: Materials) -> str:
    """What the recorded rows are: pairs, lists, demonstrations, or single responses."""
    records = materials.method.needs.records
    if records == "unpaired" and materials.pairs is not None:
        return "pairs" if materials.pairs.responses.shape[1] == 2 else "responses"
    return str(records)


def _counts(materials: Materials) -> list[tuple[str, int]]:
    assert materials.dataset is not None
    ledger = materials.dataset.ledger
    refused = [(f"refused ({reason})", count) for reason, count in ledger.refused.items()]
    return [("read", ledger.read), ("used", ledger.used), *refused, ("duplicate", ledger.duplicate)]


def _timer(journal: Journal) -> Any:
    def record(round: int, phase: str, seconds: float, tokens: int) -> None:
        line = {"round": round, "phase": phase, "seconds": float(f"{seconds:.4g}"), "tokens": tokens}
        journal.append("timings.jsonl", line)

    return record


def _inputs(config: RunConfig) -> dict[str, str]:
    """Hash of each data file: a resumed run must read the same data."""
    return {
        path: hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
        for path in config.data.path or []
        if Path(path).is_file()
    }


def _environment() -> dict[str, Any]:
    """Software and hardware environment of a run, without environment variables, which may contain secrets."""
    return {
        "versions": {name: version(name) for name in VERSIONED},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "command": sys.argv,
    }
