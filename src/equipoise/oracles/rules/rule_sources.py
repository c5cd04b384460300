"""Source files of a rule: its own, and those that it imports from its folder; read, never run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

NOT_BESIDE = frozenset(("equipoise", *sys.stdlib_module_names))


def sources(spec: str) -> list[Path]:
    """The files of `module:function` or `file.py:function`: the module's, and transitively the modules that these
    import from their folders or the working directory. Installed libraries are left out (see `distribution`)."""
    start = _start(spec.rpartition(":")[0])
    if start is None:
        return []
    roots = list(dict.fromkeys((_package_root(start), start.parent, Path.cwd())))
    found: dict[Path, None] = {}
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = None
            waiting += _imported(path, roots)
    return [start, *sorted(path for path in found if path != start)]


def distribution(spec: str) -> str | None:
    """Name and version of the installed distribution that a rule's module belongs to; None for a file."""
    where = spec.rpartition(":")[0]
    if where.endswith(".py"):
        return None
    top = where.partition(".")[0]
    names = metadata.packages_distributions().get(top, [])
    return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names))) or None


def _start(where: str) -> Path | None:
    if where.endswith(".py"):
        return Path(where).resolve() if Path(where).is_file() else None
    try:
        found = find_spec(where)
    except (ImportError, ValueError):
        return None
    origin = found.origin if found else None
    return Path(origin).resolve() if origin and Path(origin).is_file() else None


def _package_root(path: Path) -> Path:
    """The folder from which a file's package is imported."""
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _imported(path: Path, roots: list[Path]) -> Iterator[Path]:
    """Files of its folder that a file imports, anywhere in it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules(alias.name, roots)
        elif isinstance(node, ast.ImportFrom):
            base = [path.parents[node.level - 1]] if 0 < node.level <= len(path.parents) else roots
            stem = node.module or ""
            yield from _modules(stem, base)
            for alias in node.names:
                yield from _modules(f"{stem}.{alias.name}".strip("."), base)


def _modules(name: str, roots: list[Path]) -> Iterator[Path]:
    """Files of a dotted module and of the packages that hold it, from the first root that has them."""
    parts = name.split(".")
    if not name or parts[0] in NOT_BESIDE:
        return
    for root in roots:
        files = [
            candidate.resolve()
            for depth in range(1, len(parts) + 1)
            for candidate in (
                root.joinpath(*parts[:depth]).with_suffix(".py"),
                root.joinpath(*parts[:depth], "__init__.py"),
            )
            if candidate.is_file()
        ]
        if files:
            yield from files
            return
