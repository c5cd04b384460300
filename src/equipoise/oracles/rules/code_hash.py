"""Hash of a Python function and of all that it reads: code, constants, defaults, captured values, globals.

Two functions of one hash do the same. It is the same in every process, and depends neither on comments nor on where in
a file the function stands. What a function loads while it runs (files, servers, names looked up by text) is not seen.
"""

from __future__ import annotations

import datetime
import dis
import hashlib
import inspect
import logging
import re
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from fractions import Fraction
from functools import partial
from importlib import metadata
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from equipoise.oracles.protocol import OracleError
from equipoise.oracles.rules.rule_sources import sources

PLAIN = (
    type(None), bool, int, float, complex, str, bytes, type(...), range, slice, PurePath, re.Pattern, Decimal, Fraction,
    datetime.date, datetime.time, datetime.timedelta, torch.dtype, torch.device, np.dtype,
)  # fmt: skip
COLLECTIONS = (list, tuple, dict, set, frozenset, deque)
INSTALLED = ("site-packages", "dist-packages")


class Unhashable(OracleError):
    """A function reads something whose content cannot be hashed; the message names it, and what to do."""


def code_hash(function: Any) -> str:
    """Hash of a callable (a function, a method, a `functools.partial`, an object with `__call__`), or of other content.

    Raises Unhashable if it reads an object that is neither plain data, an array, code, an object of plain data, nor one
    with a text `fingerprint`.
    """
    try:
        return _Walk().hash(function, getattr(function, "__qualname__", type(function).__qualname__))[:16]
    except RecursionError as error:
        raise Unhashable("what it reads is nested too deeply") from error


class _Walk:
    """One hash in the making; what was met before is named by the place where it was first met."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self.kept: list[Any] = []  # an id is only unique while its object lives

    def hash(self, value: Any, name: str) -> str:
        """Hash of a value; `name` is what the code calls it."""
        if not isinstance(value, (*PLAIN, tuple, frozenset)):
            if id(value) in self.places:
                return f"place {self.places[id(value)]}"
            self.places[id(value)] = len(self.places)
            self.kept.append(value)
        digest = hashlib.sha256()
        for part in self._parts(value, name):
            text = part.encode("utf-8", errors="surrogatepass")
            digest.update(f"{len(text)}:".encode() + text)
        return digest.hexdigest()

    def _parts(self, value: Any, name: str) -> Iterator[str]:
        yield type(value).__qualname__
        if isinstance(value, logging.Logger) or type(value).__module__ == "dataclasses":  # sentinels
            return
        if isinstance(value, PLAIN) and _library(type(value).__module__):
            yield repr(value)
        elif isinstance(value, np.ndarray | np.generic | torch.Tensor):
            yield from self._array(value, name)
        elif isinstance(value, ModuleType):
            yield from _module(value.__name__)
        elif isinstance(value, CodeType):
            yield from self._code(value, name)
        elif _installed(value):
            yield f"{value.__module__}.{value.__qualname__} {_version(value.__module__)}"
        elif isinstance(value, FunctionType):
            yield from self._function(value, name)
        elif isinstance(value, type):
            yield from self._class(value, name)
        else:
            yield from self._object(value, name)

    def _object(self, value: Any, name: str) -> Iterator[str]:
        own = getattr(value, "fingerprint", None)
        if isinstance(own, str) and own:
            yield own
        elif isinstance(value, COLLECTIONS) and _library(type(value).__module__):
            yield type(value).__name__
            yield self.hash(getattr(value, "default_factory", None), name)
            yield from self._collection(value, name)
        elif isinstance(value, MethodType):
            yield self.hash(value.__func__, name)
            yield self.hash(value.__self__, name)
        elif isinstance(value, BuiltinFunctionType):  # a method of a plain value, such as "abc".count
            yield value.__name__
            yield self.hash(value.__self__, name)
        elif isinstance(value, partial):
            yield self.hash([value.func, value.args, value.keywords], name)
        elif isinstance(getattr(value, "__wrapped__", None), FunctionType):  # functools.lru_cache
            yield self.hash(value.__wrapped__, name)
        elif isinstance(value, property | staticmethod | classmethod):
            parts = ("fget", "__func__")
            yield self.hash([getattr(value, part, None) for part in parts], name)
        elif not _library(type(value).__module__) or type(value).__module__.startswith("equipoise."):
            yield from self._state(value, name)
        else:
            raise _unhashable(value, name)

    def _state(self, value: Any, name: str) -> Iterator[str]:
        """An object of the user's own class, or of this library's, as `copy` and `pickle` take it apart."""
        try:
            _, parts, *more = value.__reduce_ex__(2)
        except (TypeError, ValueError) as error:
            raise _unhashable(value, name) from error
        state, entries, items = [*more, None, None, None][:3]
        yield self.hash(type(value), name)
        for part in (*parts, state, list(entries or ()), list(items or ())):
            yield self.hash(part, name)

    def _collection(self, value: Collection[Any], name: str) -> Iterator[str]:
        if isinstance(value, Mapping):  # in order, which code may depend on
            for key, inner in value.items():
                yield self.hash(key, f"a key of {name}")
                yield self.hash(inner, f"{name}[{key!r}]")
        elif isinstance(value, AbstractSet):  # in no order: each entry for itself
            yield from sorted(_Walk().hash(inner, f"an entry of {name}") for inner in value)
        else:
            yield from (self.hash(inner, f"an entry of {name}") for inner in value)

    def _array(self, value: Any, name: str) -> Iterator[str]:
        array = value.detach().cpu() if isinstance(value, torch.Tensor) else np.asarray(value)
        yield f"{array.dtype} {tuple(array.shape)}"
        if isinstance(array, torch.Tensor):
            array = array.contiguous().reshape(-1).view(torch.uint8).numpy()
        if array.dtype.hasobject:
            yield self.hash(array.tolist(), name)
        else:
            yield hashlib.sha256(array.tobytes()).hexdigest()

    def _function(self, function: FunctionType, name: str) -> Iterator[str]:
        yield self.hash(function.__code__, name)
        yield self.hash(function.__defaults__, f"the defaults of {name}")
        yield self.hash(function.__kwdefaults__, f"the defaults of {name}")
        for inner, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            yield self.hash(content, inner)
        for inner in sorted(set(_globals(function.__code__))):
            if inner in function.__globals__:
                yield inner
                yield self.hash(function.__globals__[inner], inner)

    def _code(self, code: CodeType, name: str) -> Iterator[str]:
        yield hashlib.sha256(code.co_code).hexdigest()
        yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags))
        for constant in code.co_consts:
            yield self.hash(constant, f"a constant of {name}")
        for imported in _imports(code):
            yield from _module(imported)

    def _class(self, cls: type, name: str) -> Iterator[str]:
        yield cls.__qualname__
        yield from (self.hash(base, base.__name__) for base in cls.__bases__)
        for inner, value in sorted(vars(cls).items()):
            special = inner == "_abc_impl" or (inner.startswith("__") and not isinstance(value, FunctionType))
            made = inspect.isdatadescriptor(value) and not isinstance(value, property)  # slots and the like
            if not special and not made:
                yield inner
                yield self.hash(value, f"{name}.{inner}")


def _unhashable(value: Any, name: str) -> Unhashable:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return Unhashable(f"it reads {name}, whose content ({kind}) cannot be hashed")


def _globals(code: CodeType) -> Iterator[str]:
    """Names of globals that code reads, its nested functions included."""
    yield from (i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _imports(code: CodeType) -> list[str]:
    return sorted({i.argval for i in dis.get_instructions(code) if i.opname == "IMPORT_NAME" and i.argval})


def _module(name: str) -> Iterator[str]:
    """A module: an installed one by name and version; any other by its files, and those imported from its folder."""
    yield name
    if _library(name):
        yield _version(name)
        return
    for file in sources(f"{name}:"):
        yield hashlib.sha256(file.read_bytes()).hexdigest()


def _installed(value: Any) -> bool:
    """Whether a function or class belongs to an installed library, so that its name and version say what it is."""
    named = isinstance(
        value, type | FunctionType | BuiltinFunctionType | np.ufunc
    ) or inspect.ismethoddescriptor(value)
    module = getattr(value, "__module__", None)
    bound = getattr(value, "__self__", None)
    if bound is not None and not isinstance(bound, ModuleType):
        return False
    return named and hasattr(value, "__qualname__") and isinstance(module, str) and _library(module)


def _library(name: str) -> bool:
    top = name.partition(".")[0]
    if top == "__main__":  # the user's script, whatever started it
        return False
    if top in sys.stdlib_module_names or top == "equipoise":
        return True
    file = getattr(sys.modules.get(name), "__file__", None) or getattr(sys.modules.get(top), "__file__", None)
    return file is not None and any(part in INSTALLED for part in Path(file).parts)


def _version(name: str) -> str:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return ".".join(map(str, sys.version_info[:2]))
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(top), "__version__", ""))
