"""docs/data.md lists every format that is read, and quotes messages as the data room writes them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from equipoise.data.formats.registry import FORMATS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")
SPAN = re.compile(r"`` ?(.+?) ?``|`([^`]+)`")


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


def first_column(table: str) -> Iterator[str]:
    """The code spans in the first cells of a section's tables."""
    for line in table.splitlines():
        if line.startswith("| ") and not line.startswith(("| message", "| reason", "| name")):
            for doubled, single in SPAN.findall(line.split(" | ")[0]):
                yield doubled or single


def written() -> list[str]:
    """Every string of the data room's code but docstrings; f-strings are cut at their values."""
    files = (ROOT / "src/equipoise/data").rglob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    strings = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return [node.value for node in strings if isinstance(node.value, str)]


def unquoted(message: str, strings: list[str]) -> list[str]:
    """The parts of a message, between X, Y, N and ..., that no string contains."""
    parts = [part.strip() for part in re.split(r"\b[XYN]\b|\.\.\.", message)]
    return [part for part in parts if not any(part in string for string in strings)]


def test_every_format_is_in_the_table() -> None:
    assert sorted(first_column(section("Formats"))) == sorted(FORMATS)


@pytest.mark.nightly
@pytest.mark.parametrize("message", list(first_column(section("Refusals, and what to do"))))
def test_messages_are_quoted_as_they_are_written(message: str) -> None:
    assert unquoted(message, written()) == []


def test_a_message_that_nothing_writes_is_found() -> None:
    strings = ["column `", "`: did you mean `", "`?"]
    assert unquoted("column `X`: did you mean `Y`?", strings) == []
    assert unquoted("column `X`: perhaps `Y`?", strings) == ["`: perhaps `"]
