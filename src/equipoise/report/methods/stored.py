"""The lists of methods and claims, read from a file: printing them needs neither PyTorch nor the papers' programs.

`python -m equipoise.run.docs.methods` writes `guide.json` from the live methods and claims; a test fails where the two
differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from equipoise.name_lookup import known_name

FILE = Path(__file__).parent / "guide.json"

Entry: TypeAlias = dict[str, Any]


def methods() -> list[Entry]:
    """Every method's entry, as `guide.entry` makes it, in the order in which they are shown."""
    return _read()["methods"]


def method(name: str) -> Entry:
    """One method's entry. Raises KeyError naming the nearest ones."""
    entries = {e["name"]: e for e in methods()}
    return entries[known_name(name, entries, "method", "equipoise methods")]


def claims() -> list[Entry]:
    """Every claim's name, sentence, paper and grade."""
    return _read()["claims"]


def text(methods: Sequence[Entry], claims: Sequence[Entry]) -> str:
    """The file's content."""
    return json.dumps({"methods": methods, "claims": claims}, indent=1, ensure_ascii=False) + "\n"


def _read() -> Mapping[str, list[Entry]]:
    return json.loads(FILE.read_text(encoding="utf-8"))
