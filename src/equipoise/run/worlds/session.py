"""A run in a world beyond language: from names to a finished run folder; the same call resumes it to the byte."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from equipoise.methods.index import get
from equipoise.play.decoding import AS_SET
from equipoise.play.method import Method
from equipoise.play.round import play
from equipoise.play.state import State
from equipoise.policy.files import whole, write_json, write_text
from equipoise.report.run.world_page import write_world_report
from equipoise.run.claimed import claimed
from equipoise.run.config import ConfigError, difference, read_file
from equipoise.run.determinism import make_reproducible
from equipoise.run.environment import add_process
from equipoise.run.finished import Run
from equipoise.run.settings import flat
from equipoise.run.worlds.fits import align_on_examples
from equipoise.run.worlds.settings import MAY_CHANGE, SECTIONS, WorldConfig, resolve, task_settings
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.index import Choice, world
from equipoise.worlds.labels.tasks import TITLES
from equipoise.worlds.scored.examples import Examples
from equipoise.worlds.scored.fit import Training, unreadable
from equipoise.worlds.scored.keeping import InFolder
from equipoise.worlds.scored.policies import read_policy
from equipoise.worlds.scored.task import Recorded, Rewarding, Task
from equipoise.worlds.scored.world import ScoredWorld

EVALUATION, INPUTS = "evaluation.jsonl", "inputs.json"
SHOWN = 10  # lines of training progress on the screen in a round


def align_in_world(
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
    """Train a world's policy with a method; the same call on an existing folder resumes it.

    of_text   options that were given and belong to language models; they are refused.

    Raises ConfigError before compute is spent: for an unknown method, world or setting, a method that needs what the
    world does not have, or a folder of a run with other settings or data. Raises TrainingError if training cannot
    go on.
    """
    if name in TITLES:
        return align_on_examples(
            method,
            name,
            of_text=of_text,
            rounds=rounds,
            out=out,
            seed=seed,
            config=config,
            settings=settings,
            quiet=quiet,
        )
    chosen, choice = _named(method, name)
    if of_text:
        raise ConfigError(
            f"for language models alone: {', '.join(of_text)}; the world {name} has its own policy, data and oracle "
            "(--set task.NAME=VALUE, docs/beyond_language.md)"
        )
    stored = read_file(Path(config)) if config else {}
    out = out or stored.pop("out", None)
    given: dict[str, Any] = {"play.rounds": rounds, "seed": seed}
    resolved = resolve(chosen, choice, stored, given, settings or {})
    played = _played(chosen, resolved)
    check(played, ScoredWorld)
    folder = Path(str(out)) if out else Path("runs") / f"{played.name}-{choice.name}-{resolved.hash()[:8]}"
    with claimed(folder):
        make_reproducible()
        journal = Journal(folder)
        _same_settings(folder, resolved, journal)
        task = _task(choice, resolved)
        _check_task(played, task)
        _begin(folder, resolved, task)
        examples = Examples(task.recorded.examples)
        scored = ScoredWorld(
            task=task,
            training=Training(**resolved.train.model_dump()),
            seed=resolved.seed,
            per_round=resolved.play.prompts,
            listed=played.needs.lists,
            examples=examples,
            keeper=InFolder(journal, examples, _teller(resolved, quiet)),
        )
        if not quiet:
            print(
                f"{played.title} in {task.title}: {resolved.play.rounds} round(s), {folder}", file=sys.stderr
            )
        state = scored.begin(played.update.memory, keep_past=played.asks_the_past)

        def boundary(state: State) -> None:
            _measure(state, scored, journal, resolved, quiet)

        play(played, scored, state, boundary)
        _pictures(folder, task, journal, resolved)
        summary = _summary(played, task, resolved, journal)
        write_json(folder / "summary.json", summary)
        report = write_world_report(folder)
        return Run(folder, summary, report)


def check(method: Method, kind: type) -> None:
    """Raise ConfigError, in one sentence, if a world of whole examples cannot play the method."""
    try:
        method.check_world(kind)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for part in (method.players, method.pairing):
        if getattr(part, "decode", AS_SET) != AS_SET:
            raise ConfigError(f"{method.name} decodes tokens in its own way, and this world has none")
    lack = method.objective and unreadable(method.objective)
    if lack:
        raise ConfigError(lack)
    needs = method.needs
    for what, asked in {
        "margins": needs.margins,
        "rationales": needs.rationales,
        "goals": needs.goals,
        "votes of an uncertain oracle": needs.votes,
        "named scores": needs.named_scores,
    }.items():
        if asked:
            raise ConfigError(f"{method.name} needs {what}, which this world does not have")
    if method.mixes:
        raise ConfigError(
            f"{method.name} samples a mixture of two policies token by token; this world has no tokens"
        )
    if method.phases:
        raise ConfigError(f"{method.name} begins with other training phases, which this world does not play")


def _named(method: str, name: str) -> tuple[Method, Choice]:
    try:
        choice = world(name)  # first: a method of one world is unknown to another
        return get(method), choice
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from error


def _played(method: Method, config: WorldConfig) -> Method:
    """The method as the configuration has it."""
    made = method.with_parameters(config.objective)
    made = replace(made, rounds=config.play.rounds)
    if config.play.samples is not None:
        try:
            made = replace(made, players=made.players.writing(config.play.samples))
        except ValueError as error:
            raise ConfigError(f"play.samples: {error}") from error
    return made


def _task(choice: Choice, config: WorldConfig) -> Task:
    try:
        return choice.task(choice.settings()(**task_settings(choice, config.task)), config.seed)
    except ImportError as error:
        raise ConfigError(
            f"the world {choice.name} needs {error.name}; pip install 'equipoise[{choice.extra}]'"
        ) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_task(method: Method, task: Task) -> None:
    if method.needs.scores and not isinstance(task.judge, Rewarding):
        raise ConfigError(
            f"{method.name} needs rewards of single examples; {task.judge.fingerprint} gives none"
        )
    if method.needs.lists and task.recorded.lists is None:
        raise ConfigError(f"{method.name} needs ranked lists, and only pairs are recorded")


def _same_settings(folder: Path, config: WorldConfig, journal: Journal) -> None:
    """Raise ConfigError, with the differences, if the folder has a run with other settings."""
    stored = folder / "config.yaml"
    if not stored.exists():
        return
    content = read_file(stored)
    before = {n: v for n, v in flat(content, sections=SECTIONS).items() if n not in MAY_CHANGE}
    changed = difference(before, config.lasting())
    if changed and journal.checkpoints.exists():
        lines = "\n  ".join(changed)
        raise ConfigError(
            f"{folder} has a run with other settings:\n  {lines}\n"
            "resume it with the same settings, or choose another folder"
        )


def _begin(folder: Path, config: WorldConfig, task: Task) -> None:
    """Write what the run is. Raises ConfigError if it was begun with other data or another oracle."""
    now = {"recorded": _digest(task.recorded), "oracle": task.judge.fingerprint}
    path = folder / INPUTS
    if path.exists():
        before = json.loads(path.read_bytes())["inputs"]["world"]
        for what, value in now.items():
            if before.get(what) != value:
                raise ConfigError(
                    f"{folder}: the run was begun with other {what}: {before.get(what)}, now {value}; restore them, or "
                    "choose another folder"
                )
    write_json(path, {"inputs": {"world": now}})
    text = yaml.safe_dump(config.plain() | {"hash": config.hash()}, sort_keys=False, allow_unicode=True)
    write_text(folder / "config.yaml", text)
    add_process(folder)


def _digest(recorded: Recorded) -> str:
    """SHA-256 of recorded comparisons."""
    digest = hashlib.sha256()
    arrays = {**dict(recorded.examples), "pairs": recorded.pairs, "prob": recorded.prob}
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _measure(state: State, scored: ScoredWorld, journal: Journal, config: WorldConfig, quiet: bool) -> None:
    """Evaluate a round boundary once; its line in evaluation.jsonl marks it as done."""
    done = state.round - 1
    if done % config.evaluate.every and done != config.play.rounds:
        return
    if any(line["round"] == done for line in journal.lines(EVALUATION)):
        return
    found = scored.task.evaluation.measure(scored.parameters(state, "start"), scored.seeds("evaluation"))
    journal.append(EVALUATION, {"round": done, "measures": {n: dict(v) for n, v in found.items()}})
    journal.seal()
    if not quiet:
        said = ", ".join(f"{name} {_said(value)}" for name, value in found.items())
        print(f"  {'start' if not done else f'round {done}'}: {said}", file=sys.stderr)


def _said(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['value']:.4g}"
    return f"{found['value']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"


def _pictures(folder: Path, task: Task, journal: Journal, config: WorldConfig) -> None:
    """Figures of the first and the last policy, as PNG files with their captions."""
    if task.pictures is None:
        return
    lines = []
    for which, round in (("start", 0), ("last round", config.play.rounds)):
        parameters = read_policy(journal.checkpoint(round)).parameters
        for number, (caption, png) in enumerate(task.pictures(parameters, config.seed)):
            path = folder / "pictures" / f"round-{round:03d}-{number}.png"
            with whole(path) as draft:
                draft.write_bytes(png)
            lines.append({"file": path.name, "caption": f"{caption}: {which}"})
    write_json(folder / "pictures" / "pictures.json", lines)


def _summary(method: Method, task: Task, config: WorldConfig, journal: Journal) -> dict[str, Any]:
    measured = {line["round"]: line["measures"] for line in journal.lines(EVALUATION)}
    return {
        "method": method.name,
        "title": f"{method.title} – {task.title}",
        "paper": method.paper,
        "confidence": method.confidence,
        "world": task.name,
        "rounds": config.play.rounds,
        "delivered": config.play.rounds,
        "seed": config.seed,
        "measures": {"start": measured.get(0), "final": measured.get(config.play.rounds)},
        "better": dict(task.evaluation.higher_is_better),
        "about": dict(task.about),
        "hash": config.hash(),
        "status": "finished",
    }


def _teller(config: WorldConfig, quiet: bool) -> Any:
    """Prints a line of training now and then."""
    if quiet:
        return lambda line: None
    every = max(1, config.train.steps // SHOWN)

    def tell(line: Mapping[str, Any]) -> None:
        if line["step"] % every == 0 and config.play.rounds < 2 * SHOWN:
            said = ", ".join(f"{n} {line[n]:.3g}" for n in ("loss", "accuracy") if n in line)
            print(f"    round {line['round']}, step {line['step']}: {said}", file=sys.stderr)

    return tell
