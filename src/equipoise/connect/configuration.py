"""Configuration import: another preference trainer's file in, our settings and an account of theirs out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from equipoise.connect import axolotl, llama_factory, openrlhf, trl
from equipoise.connect.foreign import Foreign, parse
from equipoise.connect.meanings import ImportFailed, Translation, short

Source = Literal["trl", "axolotl", "llama-factory", "openrlhf"]
TRANSLATORS = {
    "trl": trl.translate,
    "axolotl": axolotl.translate,
    "llama-factory": llama_factory.translate,
    "openrlhf": openrlhf.translate,
}


def import_configuration(
    path: str | Path, *, source: Source | None = None, trainer: str | None = None, processes: int = 1
) -> Translation:
    """A foreign configuration file as ours.

    source     whose it is; None: read off its settings
    trainer    the method's trainer ("dpo", "kto", ...), where the file does not say
    processes  processes that it ran on: they multiply the batch

    Raises ImportFailed if it cannot be read, or is not preference training.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportFailed(f"{file} cannot be read: {error}") from None
    foreign = parse(text, str(file))
    chosen = source or source_of(foreign)
    if chosen is None:
        raise ImportFailed(
            f"{file}: its settings are those of no trainer that is known; give --from {', '.join(TRANSLATORS)}"
        )
    translate = TRANSLATORS[chosen]
    if chosen == "llama-factory":
        translate = partial(llama_factory.translate, folder=file.parent)
    try:
        t = translate(foreign.settings, trainer, _processes(foreign, processes), foreign.program)
    except (ValueError, TypeError) as error:
        raise ImportFailed(f"{file}: {error}") from None
    for unread in foreign.unread:
        t.lack(*unread.split(": ", 1))
    t.finish()
    if "data.held_out" not in t.settings:
        t.notes.append("a tenth of the prompts is held out for evaluation: data.held_out")
    return t


def source_of(foreign: Foreign) -> Source | None:
    """Whose configuration it is, by the program that is called and by settings that only one trainer has."""
    program, given = foreign.program.lower(), foreign.settings
    for name, mark in (("openrlhf", "openrlhf"), ("llama-factory", "llamafactory"), ("axolotl", "axolotl")):
        if mark in program:
            return name  # type: ignore[return-value]
    if {"stage", "finetuning_type"} & given.keys() and not given.keys() & {"rl", "pretrain"}:
        return "llama-factory"
    if "base_model" in given or "rl" in given:
        return "axolotl"
    if {"pretrain", "model.beta", "adam.lr", "train.batch_size", "micro_train_batch_size"} & given.keys():
        return "openrlhf"
    theirs = given.keys() & trl.MEANINGS.keys()
    return "trl" if theirs or trl.trainer_of(given, program) else None


def _processes(foreign: Foreign, processes: int) -> int:
    """As given, else as the launcher's option in the file says."""
    said = foreign.settings.get("num_processes")
    return int(said) if processes == 1 and isinstance(said, int) and said > 1 else processes


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as sections: {"train.lr": 1} -> {"train": {"lr": 1}}."""
    sections: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, leaf = name.rpartition(".")
        (sections.setdefault(section, {}) if section else sections)[leaf] = value
    return sections


def as_yaml(t: Translation, name: str) -> str:
    """The configuration as YAML that `equipoise align --config` takes, every one of their settings in a comment."""
    lines = [f"# {t.source} configuration {short(name)}", "#", "# Translated:"]
    lines += [f"#   {short(theirs, 120)} -> {short(ours, 120)}" for theirs, ours in t.translated]
    for title, entries in (
        ("Without an equivalent", [f"{short(theirs, 120)}: {short(why, 200)}" for theirs, why in t.missing]),
        ("Ignored, it changes nothing that is learned", [short(line, 120) for line in t.ignored]),
        ("Notes", [short(note, 300) for note in dict.fromkeys(t.notes)]),
    ):
        if entries:
            lines += ["#", f"# {title}:", *(f"#   {entry}" for entry in entries)]
    content = {"method": t.method, **nested(t.settings)}
    return "\n".join(lines) + "\n\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


__all__ = ["ImportFailed", "Source", "as_yaml", "import_configuration", "nested", "source_of"]
