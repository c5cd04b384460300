"""Small worlds that ship with the package, each a folder with a tiny model, its data and its oracle.

A setting names a file of theirs by `playground:WORLD/FILE`, such as `playground:code/model`.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

WORLDS = ("code", "tools")
MARK = "playground:"


def world_folder(name: str) -> Path:
    """The folder of a world. Raises ValueError for a name that is none."""
    if name not in WORLDS:
        raise ValueError(f"no small world {name!r} ships with the package; there are {', '.join(WORLDS)}")
    with as_file(files("equipoise.playground") / name) as path:
        return path


def located(value: Any) -> Any:
    """A setting with every `playground:WORLD/FILE` in it as a path; any other value as it is.

    Raises ValueError for a world or a file that does not ship.
    """
    if isinstance(value, list):
        return [located(item) for item in value]
    if isinstance(value, dict):
        return {name: located(item) for name, item in value.items()}
    if not isinstance(value, str) or not value.startswith(MARK):
        return value
    name, _, rest = value.removeprefix(MARK).partition("/")
    path = world_folder(name) / rest
    if ".." in Path(rest).parts or not path.exists():
        raise ValueError(f"{value}: no such file ships with the small world {name}")
    return str(path)
