"""Configuration errors in one sentence each: unknown settings, and values that a setting cannot take."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

NEAR = 0.8  # how alike a name must be to be suggested: no hint is better than a wrong one
MOST_BEGUN = 4  # settings named whose names begin as the one that was typed
SHOWN = 200  # characters of a value in a message
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "min_length": "at least of length"}
WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "none",
}


def unknown(name: str, known: Sequence[str]) -> str:
    """The message about a setting that does not exist: what another trainer's name is here, or the nearest of ours."""
    from equipoise.connect.names import advice
    from equipoise.safe_text import printable

    shown = printable(name, most=SHOWN)
    said = advice(name)
    if said:
        return f"unknown setting {shown!r}: it {said}"
    short: dict[str, str] = {}
    for full in known:  # of several settings with one last part the first is meant, as everywhere
        short.setdefault(full.rpartition(".")[2], full)
    near = get_close_matches(name, [*known, *short], n=1, cutoff=NEAR)
    # "lora", say, is no near match of any setting, and yet the beginning of three
    begun = sorted(full for own, full in short.items() if own.startswith(f"{name}_"))[:MOST_BEGUN]
    found = [short.get(near[0], near[0])] if near else begun
    hint = " or ".join(", ".join(map(repr, found)).rsplit(", ", 1))
    return f"unknown setting {shown!r}" + (f"; did you mean {hint}?" if found else "")


def illegal(error: ValidationError, model: type[BaseModel]) -> str:
    """The message about values that settings cannot take, one sentence for each setting."""
    wrong: dict[str, str] = {}
    for problem in error.errors():
        name, field = _field(problem["loc"], model)
        expected = f"must be {expects(field)}" if field else _plain(problem["msg"])
        said = f"{name} {expected}, got {_short(problem['input'])}"
        if problem["type"] == "value_error":  # a sentence of our own, with the value where it helps
            said = f"{name}: {_plain(problem['msg'])}"
        wrong.setdefault(name, said)
    return "; ".join(wrong.values())


def _field(location: Iterable[Any], model: type[BaseModel]) -> tuple[str, FieldInfo | None]:
    """(dotted name, field) of a place: what follows the field is an item of it, or pydantic's name of a type."""
    names: list[str] = []
    found: FieldInfo | None = None
    place: type[BaseModel] | None = model
    for part in location:
        if place is None or part not in place.model_fields:
            break
        names.append(str(part))
        found = place.model_fields[part]
        inner = found.annotation
        place = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return ".".join(names) or ".".join(map(str, location)), found if place is None else None


def expects(field: FieldInfo) -> str:
    """The values of a field in words: `a whole number above 0 or "auto"`."""
    bounds = [
        f"{word} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, word in BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    said = _kind(field.annotation)
    return f"{said} {' and '.join(bounds)}" if bounds else said


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = FieldInfo.from_annotation(annotation)
        return expects(inner)
    if origin is Literal:
        texts = [f'"{value}"' for value in arguments]
        return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_kind, arguments))
    if origin is list:
        return f"a list ({_kind(arguments[0])} each)" if arguments else "a list"
    if origin is dict or annotation is dict:
        return "a mapping"
    return WORDS.get(annotation, "another kind of value")


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input should be ").removesuffix(".")


def _short(value: Any) -> str:
    from equipoise.safe_text import printable

    return printable(repr(value), most=SHOWN)
