"""Beginning of a run: its inputs gathered, what its settings leave open decided, its record compared or written."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from equipoise import __version__
from equipoise.oracles.rules.given import Given, again, is_given
from equipoise.policy.files import write_json, write_text
from equipoise.run.config import ConfigError, difference, read_file
from equipoise.run.environment import add_process
from equipoise.run.gate_checks import before_a_model
from equipoise.run.gathering.records import PLAYGROUND_LISTS, PLAYGROUND_PAIRS
from equipoise.run.inputs import FILE as INPUTS_FILE
from equipoise.run.inputs import Record, joined, of_files, of_materials, tell
from equipoise.run.materials import Materials, gather
from equipoise.run.planning.defaults import CHOSEN, Decided, continued, decide
from equipoise.run.settings import MAY_CHANGE, RunConfig, flat
from equipoise.worlds.folder.manifest import MANIFEST
from equipoise.worlds.text.folder.gates import Gates


def gathered(config: RunConfig, folder: Path, oracle: Given | None) -> tuple[Decided, Materials]:
    """The inputs, and the configuration with what it leaves to them decided: as the folder's run began, or now."""
    before, kept = continued(config, folder) if has_begun(folder) else (config, ())
    materials = gather(before, folder, oracle)
    now = decide(before, materials)
    return Decided(now.config, (*kept, *now.chosen)), materials


def begin(config: RunConfig, folder: Path, gates: Gates, oracle: Given | None) -> tuple[Decided, Materials]:
    """Gather the inputs, check that they are those that the folder was begun with, decide what the configuration
    leaves to them, and write what the run is.

    Raises ConfigError, DataError, OracleError or GateClosed; nothing is written before all is checked, except data that
    are generated.
    """
    asked = continued(config, folder)[0] if has_begun(folder) else config
    started = _same_settings(asked, folder)
    record = Record.read(folder) if started else Record(folder)
    files = of_files(config, record.hasher)
    if started:
        record.check(files, gates, partial=True)
        record.check_settings(asked)
    decided, materials = gathered(config, folder, oracle)
    config = decided.config
    now = joined(files, of_materials(materials, folder, record.hasher))
    if started:
        record.check(now, gates)
        _versions(record, gates)
    for found in before_a_model(config, materials):
        gates.judge(found)
    write_text(
        folder / "config.yaml",
        yaml.safe_dump(
            config.plain() | {CHOSEN: list(decided.chosen), "hash": config.hash()},
            sort_keys=False,
            allow_unicode=True,
        ),
    )
    record.write(now, config)
    tell(record, gates)
    if materials.dataset is not None:
        write_json(folder / "ledger.json", materials.dataset.ledger.as_json())
    add_process(folder)
    return decided, materials


def has_begun(folder: Path) -> bool:
    """Whether the folder has a policy or a round, whatever else of it was deleted."""
    return any(any(folder.glob(f"{part}/*")) for part in ("checkpoints", "rounds"))


def _same_settings(config: RunConfig, folder: Path) -> bool:
    """Whether the folder has a run that has begun. Raises ConfigError, with the differences, if its settings are other.

    A folder of a run that was refused before its policy was written is used again. What a run has begun with is asked
    of every folder with a policy or a round, whatever else of it was deleted.
    """
    stored = folder / "config.yaml"
    begun = has_begun(folder)
    if not stored.exists():
        if begun:
            raise ConfigError(f"{stored} is missing: nothing says which settings the run was begun with")
        return False
    before = {name: value for name, value in flat(read_file(stored)).items() if name not in MAY_CHANGE}
    before.pop("inputs", None)  # of an older run folder
    changed = difference(before, config.lasting())
    named = str(before.get("oracle"))
    if begun and config.oracle is None and is_given(named):
        raise ConfigError(f"{folder}: {again(named)}")
    if not begun:
        if changed:
            for name in (PLAYGROUND_PAIRS, PLAYGROUND_LISTS):
                (folder / name).unlink(missing_ok=True)
        return False
    if changed:
        lines = "\n  ".join(changed)
        raise ConfigError(
            f"{folder} has a run with other settings:\n  {lines}\n"
            "resume it with the same settings, or choose another folder"
        )
    if not (folder / MANIFEST).exists() and (folder / INPUTS_FILE).exists():
        raise ConfigError(
            f"{folder / MANIFEST} is missing: nothing proves that the run's files are as written"
        )
    return True


def _versions(record: Record, gates: Gates) -> None:
    if record.version != __version__ and gates.main and not gates.quiet:
        print(
            f"  note      this run was begun with equipoise {record.version}; this is {__version__}",
            file=sys.stderr,
        )
