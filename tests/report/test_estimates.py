"""Estimates as text, in reports: shares in per cent and numbers, with their intervals."""

from __future__ import annotations

import pytest

from equipoise.report.estimates import number, share


def interval(value, low, high):
    return {"value": value, "low": low, "high": high, "n": 9}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "–"),
        (0.5, "50.0 %"),
        (interval(0.625, 0.5, 0.7), "62.5 % (50.0–70.0)"),
        (interval(1.0, None, None), "100.0 %"),
    ],
)
def test_shares(found, said):
    assert share(found) == said


@pytest.mark.parametrize(
    ("found", "digits", "said"),
    [
        (None, None, "–"),
        (1234.5, None, "1,234"),
        (interval(0.1234, -0.03, 0.27), 2, "0.12 (−0.03 to 0.27)"),
        (interval(-2, None, None), 1, "−2.0"),
        (interval(2.5, 1.5, None), 1, "2.5 (1.5 to …)"),
    ],
)
def test_numbers(found, digits, said):
    assert number(found, digits) == said
