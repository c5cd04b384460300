"""The hand-written list of methods is complete: what a module of `equipoise.methods` defines is listed once."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter

from equipoise import methods
from equipoise.methods import index
from equipoise.play.method import Method

GROUPS = [group for group in vars(index).values() if isinstance(group, tuple)]


def defined() -> dict[str, Method]:
    """Every method that a module of `equipoise.methods` has, by the name of its variable."""
    modules = [
        importlib.import_module(m.name) for m in pkgutil.iter_modules(methods.__path__, "equipoise.methods.")
    ]
    return {
        name: thing
        for module in modules
        if module is not index
        for name, thing in vars(module).items()
        if isinstance(thing, Method)
    }


def test_every_method_that_is_defined_is_listed_in_one_group():
    listed = Counter(id(method) for group in GROUPS for method in group)
    missing = [name for name, method in defined().items() if listed[id(method)] != 1]
    assert missing == []
    assert len(listed) == len({id(method) for method in defined().values()})


def test_names_are_unique_and_are_the_keys():
    names = [method.name for group in GROUPS for method in group]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert list(index.METHODS) == names
    assert all(name == method.name for name, method in index.METHODS.items())


def test_variables_are_named_as_their_methods():
    assert [name for name, method in defined().items() if name.lower() != method.name] == []
