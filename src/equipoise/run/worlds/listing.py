"""The worlds beyond language, and the methods that each plays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from equipoise.methods.index import METHODS
from equipoise.play.method import Method
from equipoise.run.config import ConfigError
from equipoise.run.worlds.session import check
from equipoise.worlds.index import WORLDS
from equipoise.worlds.labels.index import ENTRIES
from equipoise.worlds.labels.tasks import OWN, TITLES
from equipoise.worlds.scored.world import ScoredWorld

# methods that read images, or which example of a class is the more typical, or tasks of two classes
LACK = {
    "p2c": ("digits",),
    "contrastive": ("diabetes", OWN),
    "isogclr": ("diabetes", OWN),
    "ibcl": ("diabetes",),
}


def listed() -> list[dict[str, Any]]:
    """name, title, extra and methods of each world, as plain data."""
    names = [name for name, method in METHODS.items() if plays(method)]
    return [
        {"name": one.name, "title": one.title, "extra": one.extra, "methods": names}
        for one in WORLDS.values()
    ] + [
        {
            "name": name,
            "title": title,
            "extra": "" if name == OWN else "classify",
            "methods": [method for method in ENTRIES if name not in LACK.get(method, ())],
        }
        for name, title in TITLES.items()
    ]


def plays(method: Method) -> bool:
    """Whether a world of scored examples plays the method."""
    try:
        check(method, ScoredWorld)
    except ConfigError:
        return False
    return True


def print_worlds(found: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """Print the worlds for a person."""
    console = console or Console()
    for one in found:
        needs = f" (pip install 'equipoise[{one['extra']}]')" if one["extra"] else ""
        console.print(Text(f"{one['name']}{needs}", style="bold"))
        console.print(Text(f"  {one['title']}"))
        console.print(Text(f"  plays {len(one['methods'])} methods: {', '.join(one['methods'])}"))
