"""Function calls in the text of a response: JSON objects, tagged or fenced, and calls in Python's syntax.

    {"name": "order", "arguments": {"item": "tea", "count": 3}}        order(item='tea', count=3)

The text is foreign: it is parsed under limits, nothing of it is evaluated, and what is not plainly a list of calls is
none.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 20_000  # characters
DEEPEST = 32  # levels of an argument's value
MOST_CALLS = 64
TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
FENCED = re.compile(r"\A```[\w]*\n(.*?)\n?```\Z", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][\w.-]{0,127}")


class NoCalls(ValueError):
    """A text that is no list of calls; the message says why."""


@dataclass(frozen=True)
class Call:
    """A call of a tool: its name and its arguments by name, plain JSON values."""

    name: str
    arguments: Mapping[str, Any]


def read_calls(text: str) -> tuple[Call, ...]:
    """The calls of a response, in order; () for an empty list. Raises NoCalls.

    Either all of the text is calls: one JSON object, a list of them or one on each line, or a call or a list of calls
    in Python's syntax with named arguments, perhaps in one fenced block; or they stand in <tool_call> tags, and what is
    written around these is left alone.
    """
    if len(text) > LONGEST:
        raise NoCalls(f"longer than {LONGEST:,} characters")
    tagged = TAGGED.findall(text)
    if not tagged and ("<tool_call>" in text or "</tool_call>" in text):
        raise NoCalls("a tag that is not closed")
    parts = tagged or [text]
    try:
        calls = [call for part in parts for call in _part(part.strip())]
    except RecursionError:
        raise NoCalls("nested too deeply") from None
    if len(calls) > MOST_CALLS:
        raise NoCalls(f"more than {MOST_CALLS} calls")
    return tuple(calls)


def calls_of(value: Any) -> tuple[Call, ...]:
    """The calls that a plain value or a text names: a row's own right answer. Raises NoCalls."""
    if isinstance(value, str):
        return read_calls(value)
    listed = value if isinstance(value, list) else [value]
    return tuple(_of_json(item) for item in listed)


def _part(text: str) -> list[Call]:
    fenced = FENCED.match(text)
    text = fenced[1].strip() if fenced else text
    if not text:
        raise NoCalls("no call")
    if text[0] == "{" or re.match(r"\[\s*[\{\]]", text):
        return _json(text)
    return _python(text)


def _json(text: str) -> list[Call]:
    try:
        value = _loads(text)
    except NoCalls:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        value = [_loads(line) for line in lines]
    return [_of_json(item) for item in (value if isinstance(value, list) else [value])]


def _loads(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_each_name_once, parse_constant=_no_constant)
    except ValueError as error:
        raise NoCalls(f"no JSON: {error}") from None
    except RecursionError:
        raise NoCalls("nested too deeply") from None


def _each_name_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise NoCalls("a name that stands twice in one object")
    return names


def _no_constant(text: str) -> Any:
    raise NoCalls(f"{text} is no number of JSON")


def _of_json(value: Any) -> Call:
    """A call of {"name", "arguments"}, perhaps inside {"type": "function", "function": ...}; "parameters" will do."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise NoCalls(f"a call is an object with a name and arguments, not {type(value).__name__}")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # OpenAI's calls carry them as text
        arguments = _loads(arguments)
    if not isinstance(arguments, dict):
        raise NoCalls("the arguments of a call are no object")
    return _call(value.get("name"), arguments)


def _python(text: str) -> list[Call]:
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError):
        raise NoCalls("neither JSON nor calls") from None
    return [_of_python(item) for item in (body.elts if isinstance(body, ast.List | ast.Tuple) else [body])]


def _of_python(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args or any(word.arg is None for word in node.keywords):
        raise NoCalls("a call has a name and named arguments, and nothing else")
    arguments = _each_name_once([(str(word.arg), _literal(word.value)) for word in node.keywords])
    return _call(ast.unparse(node.func), arguments)


def _literal(node: ast.expr) -> Any:
    """The plain value that an expression spells; `true`, `false` and `null` too."""
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return _WORDS[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        if not all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in node.keys):
            raise NoCalls("an object whose names are no text")
        keys = [str(key.value) for key in node.keys if isinstance(key, ast.Constant)]
        return _each_name_once(list(zip(keys, map(_literal, node.values), strict=True)))
    sign = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if isinstance(node, ast.UnaryOp) and sign else node
    value = inner.value if isinstance(inner, ast.Constant) else ...
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or isinstance(value, str | bool | int | float):
        if sign and not number:
            raise NoCalls("a sign before what is no number")
        return -value if sign and isinstance(value, int | float) else value
    raise NoCalls("an argument that is no plain value")


_WORDS = {"true": True, "false": False, "null": None}


def _call(name: Any, arguments: Mapping[str, Any]) -> Call:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise NoCalls("a call without a tool's name")
    check_value(arguments, DEEPEST)
    return Call(name, dict(arguments))


def check_value(value: Any, left: int = DEEPEST) -> None:
    """Raises NoCalls for values that are nested too deeply or infinite."""
    if left == 0:
        raise NoCalls("nested too deeply")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise NoCalls("a number that is not finite")
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for item in inside:
        check_value(item, left - 1)
