"""Sandboxed Jinja rendering of chat templates, bounded in steps, time and length of text.

A template comes with a model and is untrusted. It runs in Jinja's immutable sandbox, as transformers runs it, and every
turn of a loop, call of a macro, filter and operator that makes text is counted besides.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

STEPS = 1_000_000  # turns of loops, calls and filters of one rendering
SECONDS = 5.0  # of one rendering
LONGEST = 2**22  # characters of one text, items of one list
TOTAL = 2**27  # characters that one rendering may make in all, kept or thrown away
LARGEST = 10**6  # a number given to a filter or method, such as a width
_WIDE = re.compile(r"\d{7,}")  # a width in a format string
_NESTED = re.compile(r"\{[^{}]*\{")  # a width that is a value: "{:{}}"
_REASONING = ("reasoning_content", "thinking", "reasoning")


class TemplateLimit(TemplateError):
    """A template took more steps, time or text than one conversation can need."""


class _Generation(Extension):
    """The block `{% generation %}`, which marks an assistant's tokens for other trainers: its body is rendered."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with counters; the names and filters are those that transformers gives."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        # unoptimised: constants are not folded, which would compute them before they are counted
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], optimized=False
        )
        self.steps, self.made, self.deadline = 0, 0, 0.0
        self.clock: Callable[[str], str] = str
        self.filters = {name: self._bounded(made) for name, made in self.filters.items()}
        self.filters["tojson"] = self._bounded(_tojson)
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name)
        self.globals |= {"raise_exception": _raise, "dict": _Dict(), "namespace": _Namespace}
        self.globals["strftime_now"] = lambda form: self.clock(form)

    def start(self, now: datetime) -> None:
        """Resets the counters for one rendering, in which the clock stands at `now`."""
        self.steps, self.made, self.clock = 0, 0, now.strftime
        self.deadline = time.monotonic() + SECONDS

    def tick(self) -> str:
        """Counts a step; rendered as nothing. Raises TemplateLimit beyond STEPS or SECONDS."""
        self.steps += 1
        if self.steps > STEPS or time.monotonic() > self.deadline:
            raise TemplateLimit(f"it takes more than {STEPS:,} steps or {SECONDS:g} seconds")
        return ""

    def sized(self, value: Any) -> Any:
        """The value, its length counted. Raises TemplateLimit for a text or list that is too long."""
        if isinstance(value, str | bytes | list | tuple):
            self.reserve(len(value))
        return value

    def reserve(self, length: int) -> None:
        """Counts characters or items before they are made."""
        self.made += length
        if length > LONGEST or self.made > TOTAL:
            raise TemplateLimit(f"it makes a text or list longer than {LONGEST:,}")

    def joined(self, *parts: Any) -> str:
        """Concatenation, `a ~ b`."""
        texts = [str(part) for part in parts]
        self.reserve(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.tick()
        if isinstance(left, int) and isinstance(right, int):
            if operator == "**" and (abs(right) > 64 or abs(left) > 2**32):
                raise TemplateLimit("it makes a number too large")
            if max(left.bit_length(), right.bit_length()) > 4096:
                raise TemplateLimit("it makes a number too large")
        elif operator == "*":
            many, times = (right, left) if isinstance(left, int) else (left, right)
            if hasattr(many, "__len__") and isinstance(times, int):
                self.reserve(len(many) * max(times, 0))
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            self.reserve(len(left) + len(right))
        elif operator == "%" and isinstance(left, str):
            self._format(left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, callee: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.tick()
        method = getattr(callee, "__wrapped__", callee)  # Jinja wraps str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            self._text_method(str(getattr(method, "__name__", "")), owner, args, kwargs)
        return self.sized(super().call(context, callee, *args, **kwargs))

    def _text_method(self, name: str, owner: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = (*args, *kwargs.values())
        if name not in ("format", "format_map"):
            self._small(given)
        if name == "replace" and len(args) > 1 and all(isinstance(arg, str) for arg in args[:2]):
            self.reserve(len(owner) + owner.count(args[0]) * len(args[1]))
        elif name == "join" and args and isinstance(args[0], list | tuple):
            self.reserve(sum(len(str(item)) + len(owner) for item in args[0]))
        elif name in ("format", "format_map"):
            self._format(owner, given)
        elif name == "translate":
            raise TemplateLimit("str.translate is not for chat templates")
        elif name == "expandtabs":
            self.reserve(len(owner) + owner.count("\t") * int(next(iter(given), 8)))

    def _format(self, form: str, given: Any) -> None:
        """Counts the text that a format makes; refuses large widths, in the format or among the values."""
        values = given.values() if isinstance(given, Mapping) else given
        values = list(values) if isinstance(values, tuple | list) or isinstance(given, Mapping) else [given]
        given_widths = "*" in form or _NESTED.search(form)
        large = any(isinstance(value, int) and abs(value) > LARGEST for value in values)
        if _WIDE.search(form) or (given_widths and large):
            raise TemplateLimit(f"a width above {LARGEST:,} stands in a format")
        longest = max((len(value) if isinstance(value, str) else 64 for value in values), default=0)
        self.reserve(len(form) + (form.count("%") + form.count("{")) * longest)

    def _small(self, given: Sequence[Any]) -> None:
        if any(isinstance(item, int) and abs(item) > LARGEST for item in given):
            raise TemplateLimit(f"a number above {LARGEST:,} is given to a filter or method")

    def _bounded(self, made: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(made)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            self._small([arg for arg in args[1:] if not isinstance(arg, bool)])
            self._small(list(kwargs.values()))
            texts = [arg for arg in args if isinstance(arg, str)]
            if made.__name__ == "do_replace" and len(texts) > 2:
                self.reserve(len(texts[0]) + texts[0].count(texts[1]) * len(texts[2]))
            elif made.__name__ == "do_format" and texts:
                self._format(texts[0], tuple(args[1:]))
            elif "join" in made.__name__:
                self._join(args)
            return self.sized(made(*args, **kwargs))

        return bounded

    def _join(self, args: tuple[Any, ...]) -> None:
        many = next((arg for arg in args if isinstance(arg, list | tuple)), ())
        glue = max((len(arg) for arg in args if isinstance(arg, str)), default=0)
        self.reserve(sum(len(item) if isinstance(item, str) else 16 for item in many) + glue * len(many))


class _Dict:
    """`dict(...)` in a template, without the type and its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """`namespace(...)`, whose attributes may not begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _Namespace._check(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: str) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace has no attribute {name!r}")


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(indent, int) and indent > 64:
        raise TemplateLimit("an indent is too large")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _replaced(parent: nodes.Node, child: Any) -> Any:
    if not isinstance(child, nodes.Node):
        return child
    _counted(child)
    if isinstance(child, nodes.Concat):
        return _call("joined", child.nodes, child)
    written = isinstance(parent, nodes.Output) and not isinstance(child, nodes.TemplateData)
    return _call("sized", [child], child) if written else child


def _call(name: str, args: list[Any], at: nodes.Node) -> nodes.Node:
    return nodes.Call(nodes.EnvironmentAttribute(name), args, [], None, None, lineno=at.lineno)


def _counted(node: nodes.Node) -> None:
    """Inserts a step into every loop and macro; `~` and everything that is written become counted calls."""
    for field, value in node.iter_fields():
        if isinstance(value, list):
            value[:] = [_replaced(node, child) for child in value]
        else:
            setattr(node, field, _replaced(node, value))
    if isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock):
        node.body.insert(0, nodes.ExprStmt(_call("tick", [], node), lineno=node.lineno))


class BoundedTemplate:
    """A compiled chat template. Raises jinja2.TemplateError for text that is none.

    source   Jinja text, as models carry it
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._sandbox = _Sandbox()
        if len(source) > LARGEST:
            raise TemplateLimit(f"it has {len(source):,} characters")
        try:
            tree = self._sandbox.parse(source)
            _counted(tree)
            tree.set_environment(self._sandbox)
            code = self._sandbox.compile(tree)
        except (RecursionError, MemoryError, SyntaxError) as error:
            raise TemplateLimit(f"it is nested too deep ({type(error).__name__})") from None
        self._compiled = Template.from_code(self._sandbox, code, self._sandbox.make_globals(None))

    def render(self, now: datetime, **names: Any) -> str:
        """The rendered text; the clock stands at `now`. Raises jinja2.TemplateError, or what the template's code
        raises."""
        self._sandbox.start(now)
        parts: list[str] = []
        try:
            for part in self._compiled.generate(**names):
                self._sandbox.reserve(len(part))
                parts.append(part)
        except (RecursionError, MemoryError) as error:
            raise TemplateLimit(f"it is nested too deep ({type(error).__name__})") from None
        return "".join(parts)


def as_template_data(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as templates expect them: plain JSON data, reasoning under each of its customary names."""
    found = []
    for turn in json.loads(json.dumps(list(turns), default=str)):
        reasoning = next((turn[key] for key in _REASONING if turn.get(key) is not None), None)
        named = {"thinking": reasoning, **turn, "reasoning_content": reasoning}
        found.append(turn if reasoning is None else named)
    return found
