"""Files of rows that an evaluation writes: JSON lines and JSON arrays, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from equipoise.policy.files import whole


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSON lines, whole or not at all."""
    with whole(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(
            json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n" for row in rows
        )
    return path


def write_array(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a JSON array of objects, whole or not at all."""
    text = json.dumps(list(rows), indent=2, ensure_ascii=False) + "\n"
    with whole(path) as draft:
        draft.write_bytes(text.encode("utf-8", "replace"))
    return path
