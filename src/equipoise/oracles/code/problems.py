"""Tests of a programming problem: Python assert statements, cases of standard input and output, or a command."""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from equipoise.oracles.code.sandbox import Outcome, Sandbox

PYTHON_FILE = "response.py"
KNOWN = frozenset(dir(builtins))


class BadTests(ValueError):
    """Tests that cannot be run; the message says why."""


class Problem(Protocol):
    """A prompt's tests. run(sandbox, code) -> (1 for each test that passed, else 0; why the first failed)."""

    def run(self, sandbox: Sandbox, code: str) -> tuple[list[int], str]: ...

    def canonical(self) -> str: ...


class _Canonical:
    def canonical(self) -> str:
        """The tests as text, for the oracle's fingerprint."""
        return json.dumps([type(self).__name__, asdict(self)], sort_keys=True)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Asserts(_Canonical):
    """Test statements in Python, each a program of its own: what prepares it, and the statement.

    names   what the tests take from the response: `entry_point`, or the names that they neither define nor import.
            Python's builtins are never taken from it
    """

    tests: tuple[str, ...]
    names: tuple[str, ...]
    entry: str | None

    def run(self, sandbox: Sandbox, code: str) -> tuple[list[int], str]:
        return sandbox.tests(code, self.tests, self.names, self.entry)


@dataclass(frozen=True)
class Cases(_Canonical):
    """Standard input and the standard output that must come of it, up to white space at the ends of lines.

    name, command   the file that the code is written to, and how it is run; Python without a command
    """

    cases: tuple[tuple[str, str], ...]
    name: str = PYTHON_FILE
    command: tuple[str, ...] = ()

    def run(self, sandbox: Sandbox, code: str) -> tuple[list[int], str]:
        passed, why = [], ""
        for given, wanted in self.cases:
            outcome = sandbox.program({self.name: code}, command=self.command, stdin=given)
            right = outcome.code == 0 and _lines(outcome.output.decode(errors="replace")) == _lines(wanted)
            passed.append(int(right))
            why = why or ("" if right else _why(outcome, "another output"))
        return passed, why


@dataclass(frozen=True)
class Command(_Canonical):
    """A command that passes by ending with status 0, in the folder of the code's file and others.

    What is known is this status alone. A command that loads the code into its own process can be ended by it, with
    status 0 too; only asserts and cases are proof against that.
    """

    command: tuple[str, ...]
    name: str
    files: tuple[tuple[str, str], ...]

    def run(self, sandbox: Sandbox, code: str) -> tuple[list[int], str]:
        outcome = sandbox.program({self.name: code, **dict(self.files)}, command=self.command)
        return [int(outcome.code == 0)], "" if outcome.code == 0 else _why(outcome, "")


def problem_of(tests: Any, entry_point: Any = None) -> Problem:
    """The tests of a row. Raises BadTests.

    text, or a list of texts                          test statements
    {"input": text, "output": text}, or a list        cases; with "name" and "command", of another language
    {"command": [...], "name": ..., "files": {...}}   a command
    """
    if isinstance(tests, str) and tests.lstrip()[:1] in ("[", "{"):
        with suppress(ValueError):  # a text of Python may begin so
            tests = json.loads(tests)
    listed = tests if isinstance(tests, list) else [tests]
    if listed and all(isinstance(test, str) for test in listed):
        return asserts_of(listed, entry_point)
    if (
        len(listed) == 1
        and isinstance(listed[0], dict)
        and "command" in listed[0]
        and "output" not in listed[0]
    ):
        about = listed[0]
        return Command(
            _words(about), str(about.get("name", PYTHON_FILE)), tuple(dict(about.get("files") or {}).items())
        )
    if listed and all(isinstance(test, dict) and isinstance(test.get("output"), str) for test in listed):
        about = listed[0]
        cases = tuple((str(test.get("input", "")), test["output"]) for test in listed)
        return Cases(cases, str(about.get("name", PYTHON_FILE)), _words(about))
    raise BadTests("tests are Python text, a list of it, cases {input, output}, or {command, name, files}")


def asserts_of(sources: Sequence[str], entry_point: Any = None) -> Asserts:
    """Test statements of Python text. Raises BadTests for text that is no Python or tests nothing."""
    entries = [entry_point] if isinstance(entry_point, str) else list(entry_point or [])
    if not all(isinstance(entry, str) and entry.isidentifier() for entry in entries):
        raise BadTests(f"entry_point must be a function's name, and is {entry_point!r}")
    tests, wanted = [], dict.fromkeys(entries)
    for source in sources:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError) as error:
            raise BadTests(f"the tests are no Python: {error}") from error
        if not entries:
            wanted |= dict.fromkeys(_free(tree))
        tests += [ast.unparse(test) for test in _tests(tree)]
    if not tests:
        raise BadTests("the tests hold no assert, and no function check or test_...")
    return Asserts(tuple(tests), tuple(wanted), entries[0] if entries else None)


def _tests(tree: ast.Module) -> Iterator[ast.Module]:
    """The tests of a module: each statement that asserts, behind those that do not; each assert of `check` or test_...
    in a copy of its function."""
    before: list[ast.stmt] = []
    checks: list[ast.FunctionDef] = []
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and _is_check(statement):
            checks.append(statement)
        elif _asserts(statement) and not isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield _module([*before, statement])
        elif not _calls_check(statement):
            before.append(statement)
    for check in checks:
        arguments = "candidate" if check.args.args else ""
        call = ast.parse(f"{check.name}({arguments})").body
        for body in _bodies(check.body):
            one = ast.FunctionDef(**{**_fields(check), "body": body, "decorator_list": []})
            yield _module([*before, one, *call])


def _bodies(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    before: list[ast.stmt] = []
    for statement in body:
        if _asserts(statement):
            yield [*before, statement]
        else:
            before.append(statement)


def _is_check(function: ast.FunctionDef) -> bool:
    given = len(function.args.args) + len(function.args.kwonlyargs)
    wanted = 1 if function.name == "check" else 0 if function.name.startswith("test_") else None
    return given == wanted and _asserts(function)


def _calls_check(statement: ast.stmt) -> bool:
    """Whether a statement is a call of `check(...)` or `test_...()`, which is made for each assert anyway."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
    return name == "check" or name.startswith("test_")


def _asserts(node: ast.AST) -> bool:
    """Whether a statement asserts something; `assert True` does not."""
    inside = (part.test for part in ast.walk(node) if isinstance(part, ast.Assert))
    return any(not isinstance(test, ast.Constant) for test in inside)


def _module(body: list[ast.stmt]) -> ast.Module:
    return ast.fix_missing_locations(ast.Module(body=body, type_ignores=[]))


def _fields(node: ast.AST) -> dict[str, Any]:
    return dict(ast.iter_fields(node))


def _free(tree: ast.Module) -> Iterator[str]:
    """Names that a module reads and does not make: neither assigned, defined, imported, an argument, nor Python's."""
    made = {"candidate"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            made.add(node.name)
        elif isinstance(node, ast.alias):
            made.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            made.add(node.arg)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in made and node.id not in KNOWN:
            yield node.id


def _words(about: dict[str, Any]) -> tuple[str, ...]:
    command = about.get("command") or []
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise BadTests("a command is a list of words, such as [python3, response.py]")
    return tuple(command)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _why(outcome: Outcome, otherwise: str) -> str:
    if outcome.ended == "time":
        return "it did not end in time"
    if outcome.ended == "output":
        return "it wrote too much"
    return f"it ended with {outcome.code}" if outcome.code else otherwise
