"""Self-written code and tests of a run, by round: how many could be read, and how many codes pass a test."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.report.numbers import percent

FILE = "self_tests.jsonl"


def self_tests(folder: Path) -> list[tuple[int, int, str, str, str]]:
    """(round, problems, codes read, tests read, passes) of every round; [] for a run without self-written tests.

    A line that is not as it was written is left out.
    """
    path = folder / FILE
    counts: dict[int, list[int]] = defaultdict(lambda: [0] * 6)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            round, found = _counts(json.loads(line))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError):
            continue
        counts[round] = [a + b for a, b in zip(counts[round], found, strict=True)]
    return [
        (
            round,
            problems,
            percent(codes / of_codes),
            percent(tests / of_tests),
            percent(passes / (of_codes * of_tests / problems)),
        )
        for round, (problems, codes, of_codes, tests, of_tests, passes) in sorted(counts.items())
    ]


def _counts(line: Mapping[str, Any]) -> tuple[int, list[int]]:
    """(round, [problems, codes read, of codes, tests read, of tests, passes]) of one problem."""
    table = line["passed"]
    passes = sum(cell == 1 for row in table for cell in row)
    read = [int(line["codes_read"]), len(table), int(line["tests_read"]), len(table[0])]
    if not (1 <= read[1] >= read[0] >= 0 and 1 <= read[3] >= read[2] >= 0):
        raise ValueError("a table of another size")
    return int(line["round"]), [1, *read, passes]
