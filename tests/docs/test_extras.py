"""The extras that pages and messages name are those of the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("needs tomllib", allow_module_level=True)

import tomllib

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
NAMED = re.compile(r"(?:equipoise|'\.|\.whl)\[([a-z,-]+)\]")
TEXTS = (
    ROOT / "README.md",
    ROOT / "Makefile",
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "src/equipoise").rglob("*.py"),
)


def test_every_extra_that_is_named_exists() -> None:
    named = {
        (name, text.name)
        for text in TEXTS
        for found in NAMED.findall(text.read_text(encoding="utf-8"))
        for name in found.split(",")
    }
    assert {name for name, _ in named} >= {"judge", "track", "label", "eval", "vllm"}
    assert [(name, where) for name, where in sorted(named) if name not in EXTRAS] == []


def test_the_extras_of_the_installation_page() -> None:
    page = (ROOT / "docs/how_to/install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == EXTRAS
