"""Programming tasks of one line: two arithmetic steps, the function that takes them, and asserts of its values.

    Write f : double then increment .        def f(x): return ( x * 2 ) + 1        assert f( 3 ) == 7

Words are separated by single spaces, so that a word-level tokenizer writes Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

# the word of a step -> its Python, behind a value in parentheses
STEPS = {
    "double": "* 2",
    "triple": "* 3",
    "square": "** 2",
    "negate": "* -1",
    "increment": "+ 1",
    "decrement": "- 1",
    "halve": "// 2",
    "wrap": "% 5",
}
TAKES: dict[str, Callable[[int], int]] = {
    "double": lambda x: x * 2,
    "triple": lambda x: x * 3,
    "square": lambda x: x**2,
    "negate": lambda x: -x,
    "increment": lambda x: x + 1,
    "decrement": lambda x: x - 1,
    "halve": lambda x: x // 2,
    "wrap": lambda x: x % 5,
}
INPUTS = (0, 1, 2, 3, 4)  # of tests that the model writes
CHECKED = range(-3, 9)  # inputs of the tasks' own tests
ASK_TEST, ASK_BOTH = "{prompt} Test only .", "{prompt} Code and test ."
JOINED = "{code} {test}"


@dataclass(frozen=True)
class Task:
    """A task by its two steps."""

    first: str
    second: str

    @property
    def prompt(self) -> str:
        return f"Write f : {self.first} then {self.second} ."

    @property
    def code(self) -> str:
        return code_of(self.first, self.second)

    def value(self, x: int) -> int:
        return TAKES[self.second](TAKES[self.first](x))

    def test(self, x: int) -> str:
        return test_of(x, self.value(x))


def code_of(first: str, second: str) -> str:
    """The function that takes two steps."""
    return f"def f(x): return ( x {STEPS[first]} ) {STEPS[second]}"


def test_of(x: int, value: int) -> str:
    """The assert that f(x) has this value."""
    return f"assert f( {x} ) == {value}"


TASKS = tuple(Task(*steps) for steps in product(STEPS, STEPS))


def vocabulary() -> tuple[str, ...]:
    """Every word that a prompt, a code or a test of the world may use."""
    values = sorted({task.value(x) + off for task in TASKS for x in INPUTS for off in range(-3, 4)})
    texts = [ASK_TEST, ASK_BOTH, *(task.prompt for task in TASKS), *(task.code for task in TASKS)]
    texts += [test_of(x, 0) for x in INPUTS] + [str(value) for value in values]
    words = dict.fromkeys(word for text in texts for word in text.replace("{prompt}", "").split())
    return tuple(words)
