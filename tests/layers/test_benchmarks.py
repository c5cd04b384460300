"""Benchmarks are programs of their own, which no test runs: what they import from the package must be there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_what_a_benchmark_imports_is_there(program: Path):
    missing = [
        f"{node.module}.{name.name}"
        for node in ast.walk(ast.parse(program.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("equipoise")
        for name in node.names
        if not is_there(str(node.module), name.name)
    ]
    assert not missing


def is_there(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


def test_a_name_that_is_gone_is_found():
    assert is_there("equipoise.core.intervals", "wilson") and is_there("equipoise.core", "intervals")
    assert not is_there("equipoise.core.intervals", "gone")
