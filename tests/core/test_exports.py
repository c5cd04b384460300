"""The hand-written lists of `core.objectives` are complete: what is defined is exported, what has rows is listed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

from equipoise.core import objectives
from equipoise.core.objectives import CATALOG, catalog
from equipoise.core.objectives.base import Objective


def modules(package: ModuleType) -> list[ModuleType]:
    names = [found.name for found in pkgutil.iter_modules(package.__path__) if not found.ispkg]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def objectives_of(module: ModuleType) -> set[str]:
    """Names of the objectives that a module defines: classes with the interface, and functions that build one."""
    own = {
        name: thing
        for name, thing in vars(module).items()
        if name[0].isupper() and getattr(thing, "__module__", None) == module.__name__
    }
    classes = {
        name
        for name, thing in own.items()
        if inspect.isclass(thing)
        and not inspect.isabstract(thing)
        and {"anchors", "candidates", "reads"} <= set(dir(thing))
        and thing is not Objective
    }
    return classes | {name for name, thing in own.items() if inspect.isfunction(thing)}


@pytest.mark.parametrize("module", modules(objectives), ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_objective_of_a_module_is_exported(module: ModuleType):
    missing = objectives_of(module) - set(objectives.__all__)
    assert not missing, f"add to core/objectives/__init__.py: {', '.join(sorted(missing))}"


def test_what_is_exported_is_there_once_and_in_order():
    assert all(hasattr(objectives, name) for name in objectives.__all__)
    assert len(set(objectives.__all__)) == len(objectives.__all__)


def test_every_row_of_the_catalogue_builds_an_exported_objective():
    for name, row in CATALOG.items():
        assert getattr(objectives, row.build.__name__, None) is row.build, name


def test_every_module_of_rows_is_a_family_of_the_catalogue():
    with_rows = {module for module in modules(catalog) if hasattr(module, "ROWS")}
    assert with_rows == set(catalog.FAMILIES)
    assert set(CATALOG) == {name for family in catalog.FAMILIES for name in family.ROWS}
