"""A run in a world of labelled examples: fits of one method, each from its own seed; the same call resumes it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from equipoise.data.errors import DataError
from equipoise.name_lookup import known_name
from equipoise.play.seeds import Seeds
from equipoise.policy.files import write_json, write_tensors, write_text
from equipoise.report.run.fits_page import intervals, write_fits_report
from equipoise.run.claimed import claimed
from equipoise.run.config import ConfigError, difference, read_file
from equipoise.run.determinism import make_reproducible
from equipoise.run.environment import add_process
from equipoise.run.finished import Run
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.labels.examples import Examples, Split
from equipoise.worlds.labels.index import ENTRIES, Entry, settings_of, with_settings
from equipoise.worlds.labels.tasks import TITLES, LabelTask

OUTCOME, WEIGHTS = "outcome", "model.safetensors"
FIXED = ("method", "world", "seed", "hash", "data")


def align_on_examples(
    method: str,
    name: str,
    *,
    of_text: Sequence[str] = (),
    rounds: int | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Run:
    """Fit a method of the labels world `task.fits` times; the same call on an existing folder resumes it.

    Each fit is one stage: its figures, curves and weights are written whole; a killed one is made again.

    Raises ConfigError before compute is spent: for an unknown method or setting, options of language models, data that
    cannot be used, or a folder of a run with other settings or data. Raises TrainingError if a fit cannot go on.
    """
    entry = entry_of(method)
    given = [*of_text, *(["rounds"] if rounds is not None else [])]
    if given:
        raise ConfigError(
            f"not for a world of labelled examples: {', '.join(given)}; set task.NAME=VALUE and the method's settings "
            "with --set (docs/beyond_language.md)"
        )
    stored = read_file(Path(config)) if config else {}
    out = out or stored.pop("out", None)
    _check_stated(stored, method, name)
    seed = int(stored.get("seed", 0)) if seed is None else seed
    task, recipe = resolved(entry, {**_flat(stored), **_flat(settings or {})})
    try:
        examples = task.examples(name)
        first = task.split(examples, Seeds(seed))
    except (ValueError, DataError) as error:
        raise ConfigError(str(error)) from error
    plain = {"method": method, "world": name, "seed": seed, "data": _digest(examples)}
    plain |= {"task": asdict(task), "recipe": settings_of(recipe)}
    hashed = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(str(out)) if out else Path("runs") / f"{method}-{name}-{hashed[:8]}"
    with claimed(folder):
        make_reproducible()
        _begin(folder, plain, hashed)
        journal = Journal(folder)
        if not quiet:
            told = f"{len(first.train)} training and {len(first.test)} held-out examples"
            print(f"{entry.title}, {TITLES[name]}: {task.fits} fit(s) on {told}, {folder}", file=sys.stderr)
        outcomes = []
        for fit in range(1, task.fits + 1):
            found = _stage(
                journal, fit, lambda s: recipe.run(task.split(examples, Seeds(s)), Seeds(s)), seed + fit - 1
            )
            outcomes.append(found["figures"])
            if not quiet:
                said = ", ".join(f"{figure} {value:.4g}" for figure, value in found["figures"].items())
                print(f"  fit {fit}: {said}", file=sys.stderr)
        summary = {
            "method": method,
            "title": f"{entry.title} – {name}",
            "paper": entry.paper,
            "confidence": entry.confidence,
            "world": name,
            "main": entry.main,
            "fits": task.fits,
            "delivered": 1,
            "seed": seed,
            "figures": intervals(outcomes),
            "hash": hashed,
            "status": "finished",
        }
        write_json(folder / "summary.json", summary)
        return Run(folder, summary, write_fits_report(folder))


def entry_of(method: str) -> Entry:
    """The method of that name. Raises ConfigError that names the nearest ones."""
    try:
        return ENTRIES[
            known_name(method, ENTRIES, "method of labelled examples", "equipoise methods --worlds")
        ]
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from error


def _check_stated(stored: Mapping[str, Any], method: str, name: str) -> None:
    for what, stated in (("method", method), ("world", name)):
        if stored.get(what, stated) != stated:
            raise ConfigError(f"the configuration is for {what} {stored[what]!r}, not for {stated!r}")


def _flat(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name; those of a stored `recipe` without its name."""
    found: dict[str, Any] = {}
    for name, value in layer.items():
        if isinstance(value, Mapping):
            inner = _flat(value)
            found |= inner if name == "recipe" else {f"{name}.{k}": v for k, v in inner.items()}
        elif name not in FIXED:
            found[name] = value
    return found


def resolved(entry: Entry, given: Mapping[str, Any]) -> tuple[LabelTask, Any]:
    """The task and the recipe with these settings. Raises ConfigError for an unknown or illegal one."""
    own = {n.removeprefix("task."): v for n, v in given.items() if n.startswith("task.")}
    rest = {n: v for n, v in given.items() if not n.startswith("task.")}
    try:
        return with_settings(LabelTask(), own), with_settings(entry.recipe, rest)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _digest(examples: Examples | Split) -> str:
    """SHA-256 of examples."""
    digest = hashlib.sha256()
    for part in (examples.train, examples.test) if isinstance(examples, Split) else (examples,):
        for values in (part.x, part.y, part.typical):
            digest.update(b"" if values is None else values.numpy().tobytes())
    return digest.hexdigest()[:16]


def _begin(folder: Path, plain: Mapping[str, Any], hashed: str) -> None:
    """Write what the run is. Raises ConfigError if the folder has a run with other settings or data."""
    path = folder / "config.yaml"
    if path.exists():
        before = read_file(path)
        before.pop("hash", None)
        now = yaml.safe_load(yaml.safe_dump(_listed(plain)))
        changed = [] if before == now else difference(_dotted(before), _dotted(now))
        if changed:
            lines = "\n  ".join(changed)
            raise ConfigError(
                f"{folder} has a run with other settings or data:\n  {lines}\n"
                "resume it with the same ones, or choose another folder"
            )
    write_text(path, yaml.safe_dump(_listed(plain) | {"hash": hashed}, sort_keys=False, allow_unicode=True))
    add_process(folder)


def _listed(value: Any) -> Any:
    """Tuples as lists, as YAML has them."""
    if isinstance(value, Mapping):
        return {name: _listed(inner) for name, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, tuple) else value


def _dotted(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _dotted(inner, f"{prefix}{name}.") if isinstance(inner, Mapping) else {prefix + name: inner}
    return found


def _stage(journal: Journal, fit: int, run: Any, seed: int) -> dict[str, Any]:
    """One fit, or its result if it had finished; the outcome is written last and marks it as done."""
    path = journal.stage(fit, OUTCOME, ".json")
    if path.exists():
        journal.manifest.ensure(path)
        journal.manifest.verify(path)
        return dict(json.loads(path.read_bytes()))
    try:
        outcome = run(seed)
    except ArithmeticError as error:
        raise TrainingError(f"fit {fit}: {error}") from error
    weights = journal.checkpoint(fit) / WEIGHTS
    write_tensors(weights, {name: t.detach().contiguous() for name, t in _own(outcome.tensors).items()})
    journal.manifest.record(weights)
    found = {
        "seed": seed,
        "figures": dict(outcome.figures),
        "curves": {n: list(c) for n, c in outcome.curves.items()},
    }
    write_json(path, found)
    journal.manifest.record(path)
    return found


def _own(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors without shared memory, which safetensors would refuse."""
    return {name: tensor.clone() for name, tensor in tensors.items()}
