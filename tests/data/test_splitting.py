"""Splits go by prompt: no prompt is ever on both sides."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.collate import Response
from equipoise.data.errors import DataError
from equipoise.data.place import place_of
from equipoise.data.records import Candidate, Record
from equipoise.data.rendering.render import Rendered
from equipoise.data.split import overlap, split


def records(prompts: list[int]) -> list[Record]:
    return [
        Record(
            context=f"prompt {p}",
            candidates=(Candidate(content="a"), Candidate(content="b")),
            place=place_of("f", line),
        )
        for line, p in enumerate(prompts, 1)
    ]


@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=40).filter(lambda prompts: len(set(prompts)) > 1),
    st.floats(0.01, 0.99),
    st.integers(0, 9),
)
def test_no_prompt_is_on_both_sides_and_no_row_is_lost(
    prompts: list[int], fraction: float, seed: int
) -> None:
    rows = records(prompts)
    train, held = split(rows, fraction, seed)
    assert train and held
    assert not overlap(train, held)
    assert sorted(r.place.row for r in train + held) == list(range(1, len(rows) + 1))
    held_groups = len({r.group for r in held})
    assert abs(held_groups - fraction * len(set(prompts))) <= 1


def test_the_side_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    rows = records(list(range(40)))
    shuffled = random.Random(1).sample(rows, len(rows))
    contexts = lambda side: {r.context for r in side}  # noqa: E731
    assert contexts(split(rows, 0.25, 3)[1]) == contexts(split(shuffled, 0.25, 3)[1])
    assert contexts(split(rows, 0.25, 3)[1]) != contexts(split(rows, 0.25, 4)[1])


def test_rendered_rows_split_as_their_records_do() -> None:
    rows = records([1, 1, 2, 3, 3, 4])
    rendered = [Rendered(row, (1,), (Response((2,), ""), Response((3,), ""))) for row in rows]
    held = split(rows, 0.5)[1]
    assert [row.record for row in split(rendered, 0.5)[1]] == held


def test_too_few_prompts_and_bad_fractions_are_errors() -> None:
    with pytest.raises(DataError, match="1 distinct prompt"):
        split(records([5, 5, 5]), 0.5)
    for fraction in (0, 1, 1.5, -0.1):
        with pytest.raises(DataError, match="between 0 and 1"):
            split(records([1, 2]), fraction)


def test_overlap_names_the_shared_groups() -> None:
    a, b = records([1, 2]), records([2, 3])
    assert overlap(a, b) == {a[1].group}
