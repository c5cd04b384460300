"""Names that people build on do not change unnoticed."""

from __future__ import annotations

import importlib
from difflib import unified_diff
from pathlib import Path

import pytest

import equipoise
from public_api import COMMAND, FILE, current


def test_public_names_are_the_stored_ones():
    stored, now = FILE.read_text(encoding="utf-8").splitlines(), current().splitlines()
    changed = list(unified_diff(stored, now, "stored", "now", lineterm="", n=0))
    assert not changed, "\n".join([*changed, f"if this is meant, run: {COMMAND}"])


def test_the_list_speaks_of_python_and_of_the_command_line():
    lines = current().splitlines()
    for line in ("equipoise align", "equipoise.play.method Method", "$ equipoise data check --json"):
        assert line in lines, line


@pytest.mark.parametrize("name", [name for name in equipoise.__all__ if name != "evaluate"])
def test_no_submodule_has_the_name_of_a_lazy_attribute(name):
    """Importing `equipoise.align` would set the attribute `align` to a module for the rest of the process."""
    package = Path(equipoise.__file__).parent
    assert not (package / name).exists() and not (package / f"{name}.py").exists()
    home = importlib.import_module(equipoise._HOME[name])
    for _ in range(2):
        assert getattr(equipoise, name) is getattr(home, name)


def test_the_one_submodule_with_the_name_of_a_function_is_called_as_it(monkeypatch):
    """`equipoise.evaluate` is the function before, and the callable package after, its first import."""
    home = importlib.import_module(equipoise._HOME["evaluate"])
    monkeypatch.setattr(home, "evaluate", lambda *models, **options: (models, options))
    package = importlib.import_module("equipoise.evaluate")
    assert equipoise.evaluate is package
    assert equipoise.evaluate("a", "b", count=2) == (("a", "b"), {"count": 2})


def test_an_unknown_attribute_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'aling'"):
        _ = equipoise.aling
