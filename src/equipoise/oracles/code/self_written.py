"""Self-written tests of code: sampled assert statements, read under a strict grammar, and tables of what passes what.

Tests of a problem's author may be any program (`problems`). Those that a policy wrote are foreign code like its
answers,
and several run in one sandbox, where one could decide the others' verdicts. So of these only plain asserts are read:
calls of the tested functions and of harmless builtins, literals and operators.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equipoise.oracles.code.code_tests import code_of
from equipoise.oracles.code.problems import Asserts, BadTests, asserts_of
from equipoise.oracles.code.sandbox import Sandbox

LONGEST = 4000  # characters of a test; a longer one is not read
MOST_ASSERTS = 16
MODULES = frozenset(("math",))
BUILTINS = frozenset(dir(builtins))
HARMLESS = frozenset(
    (
        *("abs", "all", "any", "bool", "dict", "enumerate", "float", "frozenset", "int", "isinstance", "len"),
        *("list", "max", "min", "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple"),
        "zip",
    )
)
NODES = (
    *(ast.Module, ast.Assert, ast.FunctionDef, ast.arguments, ast.arg),
    *(ast.Expr, ast.Import, ast.alias, ast.Assign),
    *(ast.Name, ast.Load, ast.Store, ast.Constant, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred),
    *(ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Call, ast.keyword, ast.IfExp),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


@dataclass(frozen=True, eq=False)
class PassTable:
    """What J self-written codes do on K self-written tests of one problem.

    passed   [J, K] whether the code passes the test; False where either cannot be read.
    codes    [J] whether the code is Python.          tests   [K] whether the test is one that is read.
    """

    passed: npt.NDArray[np.bool_]
    codes: npt.NDArray[np.bool_]
    tests: npt.NDArray[np.bool_]


def read_test(response: str) -> Asserts | None:
    """The asserts of a sampled test, its last fenced block or all of it; None for text that is no such test.

    A test must ask something of a function that it does not define itself.
    """
    text = code_of(response, "fenced").strip()
    if not text or len(text) > LONGEST:
        return None
    try:
        tree = ast.parse(text)
        if not all(map(_harmless, ast.walk(tree))):
            return None
        test = asserts_of([text])
    except (BadTests, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return test if test.names and len(test.tests) <= MOST_ASSERTS else None


def _harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        builtin = isinstance(node, ast.Name) and name in BUILTINS and name not in HARMLESS
        return not name.startswith("_") and not builtin
    if isinstance(node, ast.Import):
        return all(alias.name in MODULES for alias in node.names)
    if isinstance(node, ast.FunctionDef):
        return not node.decorator_list and not node.name.startswith("_")
    return isinstance(node, NODES)


def is_code(text: str) -> bool:
    """Whether a text is Python that defines something; nothing is run."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in tree.body)


def pass_tables(
    sandbox: Sandbox, problems: Sequence[tuple[Sequence[str], Sequence[str]]], threads: int = 1
) -> list[PassTable]:
    """The table of each problem, (sampled codes, sampled tests); each different code is run once.

    Raises SandboxError where the sandbox itself fails.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda problem: pass_table(sandbox, *problem), problems))


def pass_table(sandbox: Sandbox, codes: Sequence[str], tests: Sequence[str]) -> PassTable:
    """Runs every code against every test of one problem."""
    texts = [code_of(code, "fenced") for code in codes]
    read = [read_test(test) for test in tests]
    different = {test: None for test in read if test is not None}
    runs: dict[str, dict[Asserts, bool]] = {
        text: _run(sandbox, text, list(different)) for text in dict.fromkeys(texts) if is_code(text)
    }
    passed = [[test is not None and runs.get(text, {}).get(test, False) for test in read] for text in texts]
    return PassTable(
        passed=np.array(passed, dtype=bool).reshape(len(texts), len(read)),
        codes=np.array([text in runs for text in texts], dtype=bool),
        tests=np.array([test is not None for test in read], dtype=bool),
    )


def _run(sandbox: Sandbox, code: str, tests: Sequence[Asserts]) -> dict[Asserts, bool]:
    """Whether the code passes each test: all in one run, and those that fail again by themselves, where one of them may
    have ended that run."""
    if not tests:
        return {}
    statements = [statement for test in tests for statement in test.tests]
    names = tuple(dict.fromkeys(name for test in tests for name in test.names))
    verdicts, _, whole = sandbox.tried(code, statements, names)
    places = np.cumsum([0, *(len(test.tests) for test in tests)])
    passed = {
        test: all(verdicts[begin:end])
        for test, begin, end in zip(tests, places[:-1], places[1:], strict=True)
    }
    if not whole and len(tests) > 1:
        passed |= {test: _run(sandbox, code, [test])[test] for test, ok in passed.items() if not ok}
    return passed
