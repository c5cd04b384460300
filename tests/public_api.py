"""The names that other people's programs may use: `python tests/public_api.py` writes them to tests/public_api.txt."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

import equipoise
from equipoise.cli.app import app

FILE = Path(__file__).with_suffix(".txt")
COMMAND = "python tests/public_api.py"
LISTED = ("equipoise", "equipoise.core.objectives")  # by their __all__
ROOMS = ("play",)  # by what their modules define


def current() -> str:
    """One name a line, sorted: `MODULE NAME` for Python, `equipoise COMMAND OPTION` for the command line."""
    names = [f"{module} {name}" for module in LISTED for name in _listed(importlib.import_module(module))]
    for room in ROOMS:
        names += _defined(room)
    names += _command_line(typer.main.get_command(app), "$ equipoise")
    return "".join(f"{name}\n" for name in sorted(set(names)))


def _listed(module: ModuleType) -> list[str]:
    return list(getattr(module, "__all__", None) or (n for n in vars(module) if not n.startswith("_")))


def _defined(room: str) -> Iterator[str]:
    """What each module of a room defines at its top, and what its packages list."""
    source = Path(equipoise.__file__).parent
    for path in (source / room).rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        module = ".".join(("equipoise", *parts)).removesuffix(".__init__")
        names = [name for node in ast.parse(path.read_text(encoding="utf-8")).body for name in _names(node)]
        if path.name == "__init__.py" and "__all__" in names:
            names += importlib.import_module(module).__all__
        yield from (f"{module} {name}" for name in names if not name.startswith("_"))


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [
        part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)
    ]


def _command_line(command: Any, path: str) -> Iterator[str]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _command_line(inner, f"{path} {name}")
    for parameter in command.params:
        options = [*parameter.opts, *parameter.secondary_opts]
        argument = parameter.param_type_name == "argument"
        yield from (f"{path} {option.upper() if argument else option}" for option in options)


if __name__ == "__main__":
    FILE.write_text(current(), encoding="utf-8")
