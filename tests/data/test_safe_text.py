"""What is printed never steers a terminal, and stays readable."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.errors import DataError, Refusal
from equipoise.safe_text import printable


@given(st.text(st.characters(exclude_categories=[])), st.booleans())
def test_no_control_override_or_surrogate_is_left(text: str, lines: bool) -> None:
    shown = printable(text, lines=lines)
    kept = shown.replace("\n", "") if lines else shown
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in kept)
    assert not any(
        unicodedata.bidirectional(char) in ("LRO", "RLO", "LRE", "RLE", "PDF", "LRI", "RLI", "FSI", "PDI")
        for char in kept
    )
    shown.encode()


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text.replace("\u180e", "\\u180e")


def test_escapes_read_like_python_and_long_text_is_cut_with_its_count() -> None:
    assert printable("a\tb\n\x1b[2J\x9b\u202e\U000e0041") == r"a\tb\n\x1b[2J\x9b\u202e\U000e0041"
    assert printable("a\nb\x07", lines=True) == "a\nb\\x07"
    assert printable("x" * 1500, most=10) == "x" * 10 + "... (1,490 more characters)"
    assert printable("x" * 10, most=10) == "x" * 10


def test_errors_and_refusals_are_safe_to_print() -> None:
    assert str(DataError("col \x1b[2J", file="f\x07", line=3, hint="do\u202e")) == (
        "f\\x07:3: col \\x1b[2J\n  do\\u202e"
    )
    refusal = Refusal("no column `\x1b`", "x" * 400)
    assert refusal.reason == r"no column `\x1b`"
    assert refusal.detail.endswith("(100 more characters)")
