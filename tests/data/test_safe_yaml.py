"""YAML from outside ends in a plain value or in one sentence, in bounded time and memory."""

from __future__ import annotations

import pytest

from equipoise.safe_yaml import load, word


def test_plain_values_and_anchors_are_read():
    assert load("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}
    assert load("") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2", "line 1"),
        ("a: !!python/object:os.system x", "constructor"),
        ("[" * 5000, "nested too deeply"),
        ("a: &a [*a]", "100,000 values"),
        (
            "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)),
            "100,000 values",
        ),
        ("x" * (1 << 23), "characters"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text: str, says: str):
    with pytest.raises(ValueError, match=says):
        load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-3", -3),
        ("true", True),
        ("[1, a]", [1, "a"]),
        ("{% for m in", "{% for m in"),
        ("x: y: z", "x: y: z"),
    ],
)
def test_words_are_numbers_yaml_or_themselves(text: str, value):
    assert word(text) == value


def test_an_integer_that_is_no_float_is_refused() -> None:
    assert load(f"seed: {2**1023 - 1:#x}")["seed"] == 2**1023 - 1
    with pytest.raises(ValueError, match="more than 1,023 bits"):
        load(f"seed: {2**1023:#x}")
