"""Sweeps: every combination of the listed values of some settings, each a run in a folder of its own."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.run.config import ConfigError, read_file
from equipoise.run.settings import flat
from equipoise.safe_yaml import load, word

LONGEST_NAME = 100  # characters of a folder's name
_UNSAFE = re.compile(r"[^A-Za-z0-9=,._+-]+")


def parse(items: Sequence[str]) -> dict[str, list[Any]]:
    """Setting -> its values, of `name=a,b,c`, `name=[a, b]` and YAML files of `name: [a, b]`. Raises ConfigError."""
    swept: dict[str, list[Any]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        given = {name: _values(text)} if equals else _of_file(Path(item))
        for name, values in given.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(
                    f"sweep: {name} needs a list of values, such as {name}=1e-6,5e-6; got {values!r}"
                )
            swept[name] = [word(value) if isinstance(value, str) else value for value in values]
    return swept


def _of_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ConfigError(f"sweep {path}: no such file; give a YAML file of lists, or name=a,b,c")
    return flat(read_file(path))


def _values(text: str) -> Any:
    if not text.startswith("["):
        return [part for part in text.split(",") if part]
    try:
        return load(text)
    except ValueError as error:
        raise ConfigError(f"sweep: cannot read the list {text!r}: {error}") from error


def combinations(swept: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values, the last setting changing fastest."""
    return [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]


def folder_name(settings: Mapping[str, Any]) -> str:
    """A folder's name for a combination: `lr=1e-06,beta=0.1`; a long or changed one ends with a hash."""
    said = ",".join(f"{name.rpartition('.')[2]}={value}" for name, value in settings.items())
    name = _UNSAFE.sub("_", said)
    if name == said and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
