"""Self-written tests of code: which are read, and what passes what in a real sandbox."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.oracles.code.sandbox import Limits, Sandbox, guarantees
from equipoise.oracles.code.self_written import is_code, pass_table, pass_tables, read_test

READ = [
    "assert f(3) == 7",
    "```python\nassert f(3) == 7\nassert f(0) == 1\n```",
    "Here is one:\n```\nassert f([1, 2], key='a')[0] is None\n```\nDone.",
    "assert sorted(f('ab')) == ['a', 'b']",
    "assert [f(i) for i in range(3)] == [1, 3, 5]",
    "import math\nassert math.isclose(f(2.0), 5.0)",
    "def test_f():\n    assert f(2) == 5",
    "x = 3\nassert f(x) == 2 * x + 1",
    "assert f('a b').upper() == 'A B'",
]
NOT_READ = [
    "",
    "f(3) is 7, I think",
    "assert f(3) 7",
    "assert True",
    "assert 1 == 1",
    "def f(x): return 7\nassert f(3) == 7",
    "import os\nassert f(1) == 1",
    "import os, math\nassert f(1) == 1",
    "from math import *\nassert f(1) == 1",
    "assert f(3) == open('/etc/passwd').read()",
    "assert f(3) == eval('7')",
    "assert __import__('os')._exit(0) == f(1)",
    "assert f(3).__class__ == int",
    "assert getattr(f, 'x') == 1",
    "try:\n    assert f(3) == 8\nexcept AssertionError:\n    pass",
    "while True:\n    assert f(3) == 7",
    "class T:\n    def test(self): assert f(3) == 7",
    "@f\ndef test_f():\n    assert f(2) == 5",
    "assert (lambda: f(3))() == 7",
    "assert f(3) == 7\n" * 40,
    "assert f(" + "(" * 3000 + "1" + ")" * 3000 + ") == 1",
    "assert f(3) == 7 # " + "x" * 5000,
    "assert f(3) == '\0'",
]


@pytest.mark.parametrize("text", READ)
def test_a_plain_assert_is_read(text: str):
    test = read_test(text)
    assert test is not None and test.names == ("f",)


@pytest.mark.parametrize("text", NOT_READ)
def test_what_is_no_plain_assert_about_the_code_is_not_read(text: str):
    assert read_test(text) is None


def test_code_is_python_that_defines_something():
    assert is_code("def f(x): return 1") and is_code("class A: pass")
    assert not any(map(is_code, ["", "def f(x) return 1", "print(1)", "Sure! Here it is.", "(" * 5000, "\0"]))


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    if guarantees().isolation != "namespaces":
        pytest.skip(f"no namespaces here: {guarantees().why}")
    return Sandbox(Limits(seconds=2, wall=4.0))


def test_a_table_of_passes_by_hand(sandbox: Sandbox):
    """Two right functions, one of them fenced, one wrong and one that is no Python; the third test cannot be read."""
    codes = [
        "def f(x): return 2 * x + 1",
        "def f(x): return 2 * x",
        "def f(x) return",
        "```python\ndef f(x):\n    return x + x + 1\n```",
    ]
    tests = ["assert f(3) == 7", "assert f(0) == 0", "f(3) is 7", "assert f(1) == 3\nassert f(2) == 4"]
    table = pass_table(sandbox, codes, tests)
    assert table.passed.astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert table.codes.tolist() == [True, True, False, True]
    assert table.tests.tolist() == [True, True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("first, second", [(9, 2), (2, 9)])
def test_a_test_that_never_ends_costs_the_others_nothing(sandbox: Sandbox, first: int, second: int):
    code = "def f(x):\n    while x > 5: pass\n    return x"
    short = Sandbox(Limits(seconds=1, wall=2.0))
    passed = pass_table(short, [code], [f"assert f({x}) == {x}" for x in (first, second)]).passed
    assert passed.tolist() == [[first == 2, second == 2]]


def test_code_cannot_decide_its_own_tests(sandbox: Sandbox):
    codes = [
        "import os\ndef f(x): os._exit(0)",
        "class A:\n    def __eq__(s, o): return True\ndef f(x): return A()",
    ]
    assert not pass_table(sandbox, codes, ["assert f(1) == 1", "assert f(2) == 2"]).passed.any()


def test_problems_without_anything_to_run_give_empty_tables(sandbox: Sandbox):
    first, second = pass_tables(sandbox, [([], []), (["def f(x): return x"], ["no test"])], threads=2)
    assert first.passed.shape == (0, 0)
    assert second.passed.tolist() == [[False]] and np.array_equal(second.tests, [False])
