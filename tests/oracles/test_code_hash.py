"""Hash of a function: what it reads changes it, where it stands does not, what cannot be read is refused by name."""

from __future__ import annotations

import collections
import enum
import functools
import math
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.oracles.rules.code_hash import Unhashable, code_hash
from equipoise.oracles.rules.rule_oracle import RuleOracle


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024


@dataclass(frozen=True)
class Record:
    weight: float
    words: list[str] = field(default_factory=list)

    def rule(self, prompt: str, response: str) -> float:
        return self.weight * len(response)


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Text(str):
    __slots__ = ()


def capturing(value):
    def rule(prompt, response):
        return value

    return rule


one, two = (lambda p, r: 1.0 * len(r)), (lambda p, r: 2.0 * len(r))
PAIRS = {
    "constants": (one, two),
    "nested constants": (lambda p, r: [1 for _ in r], lambda p, r: [2 for _ in r]),
    "names": (lambda p, r: p.upper(), lambda p, r: p.lower()),
    "defaults": (lambda p, r, w=1: w, lambda p, r, w=2: w),
    "keyword defaults": (lambda p, r, *, w=1: w, lambda p, r, *, w=2: w),
    "globals": (lambda p, r: math.sin(1), lambda p, r: os.getpid()),
    "partial": (functools.partial(one, "x"), functools.partial(one, "y")),
    "method": (Record(1.0).rule, Record(2.0).rule),
    "built in": (min, max),
    **{
        f"captured {type(a).__name__} {a!r}"[:40]: (capturing(a), capturing(b))
        for a, b in [
            (1, 2), (1, True), (1, 1.0), (0.0, -0.0), ("1", 1), (b"a", "a"), (None, ...), ([1, 2], [2, 1]),
            ([1], (1,)), ({"a": 1}, {"a": 2}), ({1, 2}, {1, 3}), (one, two), (Colour.RED, Colour.BLUE),
            (Point(1, 2), Point(2, 1)), (Record(1.0), Record(2.0)), (Slotted(1), Slotted(2)), (Text("a"), Text("b")),
            (np.zeros(2), np.ones(2)), (np.zeros(2), np.zeros((2, 1))),
            (np.array(["a"], object), np.array(["b"], object)),
            (torch.zeros(2), torch.ones(2)),
            (torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.float16)),
            (re.compile("a"), re.compile("a", re.IGNORECASE)), (collections.Counter("ab"), collections.Counter("abb")),
            ("abc".count, "abd".count), (Record, Slotted), (functools.cache(one), functools.cache(two)),
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("what", PAIRS)
def test_functions_that_read_other_things_have_other_hashes(what):
    a, b = PAIRS[what]
    assert code_hash(a) != code_hash(b)
    assert (code_hash(a), code_hash(b)) == (code_hash(a), code_hash(b))
    assert RuleOracle(a, "rule").fingerprint != RuleOracle(b, "rule").fingerprint or what == "built in"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(PLAIN, PLAIN)
def test_plain_values_are_told_apart_exactly_by_their_representation(a, b):
    same = code_hash(capturing(a)) == code_hash(capturing(b))
    assert same == (repr(a) == repr(b))


def test_a_global_counts_by_its_value_and_a_comment_does_not():
    source = (
        "W = {w}\n{comment}\ndef helper(r):\n    return W * len(r)\ndef rule(p, r):\n    return helper(r)\n"
    )

    def made(w, comment=""):
        names = {"__name__": "__main__"}
        exec(source.format(w=w, comment=comment), names)
        return code_hash(names["rule"])

    assert made(1) == made(1, "# a comment\nunused = 3") != made(2)


@pytest.mark.slow
def test_a_hash_is_the_same_in_every_process(tmp_path):
    (tmp_path / "mine.py").write_text(
        "WORDS = {'a', 'b', 'c', 'd'}\nPAIRS = frozenset([('x', 'y'), ('z', 'w')])\n"
        "def rule(p, r):\n    return len(WORDS & set(r)) + (r in {'one', 'two', 'three'}) + len(PAIRS)\n"
    )
    command = "from mine import rule; from equipoise.oracles.rules.code_hash import code_hash; print(code_hash(rule))"
    said = {
        subprocess.run(
            [sys.executable, "-c", command],
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_module_beside_it_counts_by_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def rule(prompt, response):
        import code_hash_helper

        return code_hash_helper.bonus()

    (tmp_path / "code_hash_helper.py").write_text("def bonus(): return 1\n")
    first = code_hash(rule)
    (tmp_path / "code_hash_helper.py").write_text("def bonus(): return 2\n")
    assert code_hash(rule) != first


@pytest.mark.parametrize(
    "value", [object(), threading.Lock(), torch.nn.Linear(1, 1), (i for i in ()), {"k": object()}]
)
def test_what_cannot_be_hashed_is_named(value):
    with pytest.raises(Unhashable, match=r"it reads value.*cannot be hashed"):
        code_hash(capturing(value))
    alone = RuleOracle(capturing(value), "r"), RuleOracle(capturing(value), "r")
    assert alone[0].fingerprint != alone[1].fingerprint  # no verdicts are shared
    named = [RuleOracle(capturing(value), "r", fingerprint="1") for _ in "ab"]
    assert named[0].fingerprint == named[1].fingerprint and named[0].unhashed is None


def test_what_refers_to_itself_ends():
    loop: list[object] = []
    loop.append(loop)

    def even(n, r=0):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert code_hash(capturing(loop)) == code_hash(capturing(loop))
    assert code_hash(even) == code_hash(even)
