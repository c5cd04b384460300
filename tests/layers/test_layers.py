"""Dependencies point one way, and the pure rooms stay pure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_contracts_of_the_import_linter_hold():
    pytest.importorskip("importlinter", reason="import-linter is a development dependency")
    command = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    result = python(command)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "KEPT" in result.stdout  # contracts were found and judged


def test_core_and_games_import_without_the_text_world():
    heavy = ("transformers", "peft", "accelerate", "pyarrow", "pydantic")
    code = (
        "import sys, pkgutil, importlib, equipoise.core, equipoise.games\n"
        "for room in (equipoise.core, equipoise.games):\n"
        "    for module in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
