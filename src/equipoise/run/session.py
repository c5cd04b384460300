"""Training runs: `align` goes from a method's name to a finished run folder; the same call resumes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from equipoise.data.reading.given_rows import DataLike, paths_of
from equipoise.evaluate.support import delivered, refused
from equipoise.oracles.rules.given import Given, OracleLike, given
from equipoise.oracles.spec import is_code
from equipoise.play.method import Method
from equipoise.play.round import play
from equipoise.play.state import State
from equipoise.policy import load_gate
from equipoise.policy.export import dtype_of, export
from equipoise.policy.files import write_json
from equipoise.policy.generation.vllm import remote
from equipoise.report.run.page import write_report
from equipoise.run.assembly import build, launch
from equipoise.run.banner import announce
from equipoise.run.beginning import begin, gathered
from equipoise.run.callbacks import guarded, tracked
from equipoise.run.claimed import claimed
from equipoise.run.config import ConfigError, of_another, read_file, resolve
from equipoise.run.finished import Run
from equipoise.run.gate_checks import steps
from equipoise.run.given_objects import ModelLike, Objects, objects_of
from equipoise.run.phases import Part, configuration, part_of, phases_of
from equipoise.run.planning.costs import recorded_steps
from equipoise.run.round_end import budget_spent, check_evaluations, judge_support, keep_best, measure
from equipoise.run.screen import screen
from equipoise.run.settings import RunConfig
from equipoise.run.summary import summary_of
from equipoise.run.worlds.session import align_in_world
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder.gate_list import CODE
from equipoise.worlds.text.folder.gates import Gates
from equipoise.worlds.text.progress import Callback, Progress
from equipoise.worlds.text.world import TextWorld


def align(
    method: str,
    *,
    model: ModelLike | None = None,
    data: DataLike | None = None,
    oracle: OracleLike | None = None,
    tokenizer: Any = None,
    rounds: int | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
    callbacks: Sequence[Any] = (),
    quiet: bool = False,
    world: str | None = None,
) -> Run:
    """Align a language model with a method, or a policy of another world; see `equipoise methods` for their names.

    model     checkpoint folder or hub name; or, in Python, a loaded transformers model, with its `tokenizer`
    data      file(s) of feedback or prompts, see `equipoise.read`; or, in Python, rows: a list of dictionaries, a
              datasets.Dataset or a DataFrame
    oracle    module:function, file.py:function, an oracle's YAML file or a reward model's folder; or, in Python, a
              function (prompt, response) -> score or (prompt, a, b) -> P(a beats b), plain or async, or an object with
              a fingerprint that follows `oracles.Oracle`, `oracles.Questioner` or `oracles.Batched` (docs/oracles.md)
    out       run folder; the same call on an existing folder resumes it, bit for bit on CPU; else `out` of the file
    config    YAML file of settings; `settings`, by dotted or short name, override it
    allow     names of gates that may be closed, and of inputs that may have changed (docs/gates.md)
    callbacks  objects that are told of the run: methods of `equipoise.Callback`, as many as they want
    world     a world beyond language, such as "pendulum" (docs/beyond_language.md); it has its own data and oracle

    With neither model nor data the built-in language game is played.

    Raises ConfigError, DataError, OracleError or ModelError before compute is spent, each saying what to do, and
    TrainingError if training cannot continue, and CallbackError, naming the callback, if one raises: the same call
    goes on from there. A folder of a run with other settings, or that was begun with another
    model, oracle, template or other data, is refused. A refused call leaves no folder behind that it made. To resume a
    run with an oracle in Python, give the function or object again: config.yaml holds only its name. A model and rows
    given as objects are saved once in the folder `given` of the run, as safetensors and JSON lines, and are its model
    and data from then on; the model in memory is not changed.
    """
    if world is not None:
        of_text = {"model": model, "data": data, "oracle": oracle, "tokenizer": tokenizer}
        of_text |= {"allow": allow or None, "callbacks": callbacks or None}
        return align_in_world(
            method,
            world,
            of_text=[name for name, value in of_text.items() if value is not None],
            rounds=rounds,
            out=out,
            seed=seed,
            config=config,
            settings=settings,
            quiet=quiet,
        )
    named = oracle is None or isinstance(oracle, str | Path)
    held = None if named else given(oracle)
    data = list(data) if isinstance(data, Iterator) else data  # which is read more than once
    objects = objects_of(model, tokenizer, data)
    told_too = guarded(callbacks)

    def resolved(folder: Path, quiet: bool = quiet) -> RunConfig:
        places = objects.places(folder)
        return configured(
            method,
            model=places.get("model") or (None if model is None else str(model)),
            data=places.get("data") or data,
            oracle=held.spec if held else str(oracle) if oracle else None,
            rounds=rounds,
            seed=seed,
            config=config,
            settings=settings,
            allow=allow,
            quiet=quiet,
        )

    out = out or (read_file(Path(config)).get("out") if config else None)
    # objects lie in the folder that is named here; for its name their places do not matter
    folder = Path(str(out)) if out else _folder(resolved(Path("/"), quiet=True))
    try:
        settled_on = resolved(folder)
        with screen(quiet=quiet) as shown, tracked(settled_on.track) as trackers:
            told = [*shown, *guarded(trackers), *told_too]
            return run(settled_on, folder, oracle=held, objects=objects, callbacks=told, quiet=quiet)
    finally:
        remote.close()
        if held:
            held.asked()


def _folder(config: RunConfig) -> Path:
    """The run folder of a configuration, where none is named."""
    return Path("runs") / f"{config.method}-{config.hash()[:8]}"


def configured(
    method: str,
    *,
    model: str | Path | None = None,
    data: DataLike | None = None,
    oracle: str | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
    quiet: bool = False,
) -> RunConfig:
    """The configuration of `align`'s arguments. Raises ConfigError."""
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(
            f"settings is of type {type(settings).__name__}; give a dictionary, such as {{'train.lr': 1e-6}}"
        )
    paths = list(paths_of(data))
    stored = read_file(Path(config)) if config else {}
    for other in ("inputs", "out"):  # of an older run folder; and of this call, not of the run
        stored.pop(other, None)
    stored, left_out = of_another(method, stored)
    if left_out and not quiet:
        print(
            f"note: {config} is for another method; of it {method} leaves out {', '.join(left_out)}; set its own "
            "parameters with --set",
            file=sys.stderr,
        )
    given: dict[str, Any] = {
        "model.path": str(model) if model else None,
        "data.path": paths or None,
        "oracle": oracle,
        "play.rounds": rounds,
        "seed": seed,
    }
    layers = (stored, given, settings or {})
    also = list(dict.fromkeys(name for layer in (*layers, {"allow": allow}) for name in _allowed(layer)))
    resolved = resolve(method, *layers, {"allow": also} if also else {})
    if config and CODE not in allow:  # the file's own word is not enough
        _name_code(resolved, Path(config), [oracle, *map(str, (settings or {}).values())])
    return resolved


def _allowed(layer: Mapping[str, Any]) -> Sequence[str]:
    """The names that a layer allows; one alone is a list of one. Raises ConfigError for anything else."""
    names = layer.get("allow") or []
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, Sequence) or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"allow must be a list of names (docs/gates.md), got {names!r}")
    return listed


def run(
    config: RunConfig,
    folder: Path,
    *,
    oracle: Given | None = None,
    objects: Objects | None = None,
    start: Path | None = None,
    callbacks: Sequence[Callback] = (),
    phase: Part | None = None,
    quiet: bool = False,
) -> Run:
    """Play a resolved configuration in a folder, from wherever that folder stands.

    oracle  the oracle that the configuration names, where it is a Python object.
    objects the model and data that the configuration names, where they are Python objects.
    start   a checkpoint of the same model, which the run starts from; None: the model as it was given.
    callbacks  told of the run and of its phases, in the first process.
    phase   this run as a phase of another; None: it is none.
    """
    phases = {phase.name: configuration(config, phase) for phase in phases_of(config)}
    accelerator = launch()
    main = accelerator.is_main_process
    with claimed(folder) if main else nullcontext():
        disable_progress_bar()
        journal = Journal(folder)
        progress = Progress(
            _timer(journal) if main else None, callbacks if main else (), quiet=quiet or not main
        )
        gates = Gates(folder=folder, allowed=config.allow, main=main, quiet=quiet)
        with progress.preparing("reading the data"), accelerator.main_process_first():
            if main:
                with (objects or Objects()).written(folder):
                    decided, materials = begin(config, folder, gates, oracle)
            else:
                decided, materials = gathered(config, folder, oracle)
        config = decided.config
        if not journal.checkpoint(0).exists():
            for name, first in phases.items():
                into = folder / "phases" / name
                part = part_of(config, phases, name)
                made = run(
                    first, into, oracle=oracle, start=start, callbacks=callbacks, phase=part, quiet=quiet
                )
                start = made.checkpoint
        base = Journal(folder / "phases" / next(iter(phases))).checkpoint(0) if phases else None
        with progress.preparing("loading the model"):
            world, evaluator = build(config, materials, folder, progress, accelerator, start, base, gates)
        about: Mapping[str, Any] = {}
        if main and not quiet:
            with progress.preparing("estimating time and memory by a probe"):
                about = announce(decided, materials, world, folder)
        _judge_steps(gates, recorded_steps(config, materials), config, materials.method)
        method = materials.method
        check_evaluations(journal, journal.rounds_done(), config)
        state = world.begin(method.update.memory, keep_past=method.asks_the_past)
        if state.round == 1:
            gates.judge(load_gate.as_saved(world.policy, journal.checkpoint(0), second=not config.divided))
        progress.run_started(
            {
                "method": method.name,
                "title": method.title,
                "rounds": config.play.rounds,
                "done": state.round - 1,
                "steps": recorded_steps(config, materials),
                "seconds": about.get("seconds_per_round"),
                "folder": folder,
                "phase": phase.name if phase else None,
                "whole": phase.whole if phase else method.name,
                "after": phase.after if phase else 0,
                "settings": config.plain(),
            }
        )

        def boundary(state: State) -> None:
            measure(state, journal, evaluator, config)
            measured = {line["round"]: line for line in journal.lines("evaluation.jsonl")}
            progress.round_done({"round": state.round - 1, **measured.get(state.round - 1, {})})
            accelerator.wait_for_everyone()
            sound = judge_support(method, journal, gates, state.round - 1)
            accelerator.wait_for_everyone()  # what the gate said is read from its file
            if not sound:
                return
            world.folder.once(lambda: keep_best(state, journal, config))
            if state.round == 2 and recorded_steps(config, materials) is None:
                taken = [line for line in journal.lines("metrics.jsonl") if line["round"] == 1]
                fits = len({line.get("fit") for line in taken})
                _judge_steps(gates, len(taken) // max(1, fits), config, method)

        def ends(state: State) -> bool:
            done = state.round - 1
            return done in refused(journal) or budget_spent(journal, config, done)

        play(method, world, state, boundary, ends=ends)
        if main:
            _export(config, world, journal)
        accelerator.wait_for_everyone()
        summary = summary_of(config, materials, journal)
        if main:
            write_json(folder / "summary.json", summary | ({"phases": list(phases)} if phases else {}))
            with progress.preparing("writing the report"):
                write_report(folder)
        progress.finished(summary)
        return Run(folder, summary, folder / "report.html")


def _name_code(config: RunConfig, file: Path, named: Sequence[str | None]) -> None:
    """Raises ConfigError for an oracle that is code and that only a configuration file names: it would be run."""
    oracles = [config.oracle, *(configuration(config, phase).oracle for phase in phases_of(config))]
    for oracle in oracles:
        if oracle and is_code(oracle) and not any(text and str(oracle) in text for text in named):
            raise ConfigError(
                f"{file} names an oracle that is code, {oracle}, which would be run; name it yourself with "
                f"--oracle {oracle}, or trust the file with --allow {CODE}"
            )


def _judge_steps(gates: Gates, a_fit: int | None, config: RunConfig, method: Method) -> None:
    """Judge the number of optimizer steps, once a fit's are known."""
    if a_fit is not None:
        gates.judge(steps(a_fit, method, config))


def _export(config: RunConfig, world: TextWorld, journal: Journal) -> None:
    """Write the delivered policy in the dtype that model.export asks for, unless it is there."""
    start, target = world.policy.start, journal.folder / "export"
    if start is None or start.adapted or target.exists():
        return
    dtype = dtype_of(config.model.export, start.chain.base.dtype)
    if dtype is not None:
        given = start.chain.base.tensors if config.model.export == "auto" else None
        export(journal.checkpoint(delivered(journal)), target, dtype, given)


def _timer(journal: Journal) -> Any:
    def record(round: int, phase: str, seconds: float, tokens: int) -> None:
        line = {"round": round, "phase": phase, "seconds": float(f"{seconds:.4g}"), "tokens": tokens}
        journal.append("timings.jsonl", line)

    return record
