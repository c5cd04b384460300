"""The format is decided from all rows, and every doubt is an error with the line to add."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from equipoise.data.errors import DataError
from equipoise.data.formats.hints import is_misspelling
from equipoise.data.reading.read import read

Rows = Callable[..., Path]

PAIR = {"prompt": "q", "chosen": " a", "rejected": " b"}
CHAT = {
    "prompt": [{"role": "user", "content": "q"}],
    "chosen": [{"role": "assistant", "content": "a"}],
    "rejected": [{"role": "assistant", "content": "b"}],
}


def test_a_mix_of_formats_is_refused_with_counts_and_the_line_to_add(rows: Rows) -> None:
    with pytest.raises(DataError) as caught:
        read(rows(PAIR, PAIR, CHAT))
    assert "pair-text: 2 rows; pair-chat: 1 rows" in str(caught.value)
    assert "`format: pair-text`" in str(caught.value)


def test_a_late_row_of_another_kind_is_seen_too(rows: Rows) -> None:
    with pytest.raises(DataError, match="prompt-text: 1 rows"):
        read(rows(*[PAIR] * 50, {"prompt": "only a prompt"}))


def test_two_formats_in_the_same_row_are_refused(rows: Rows) -> None:
    with pytest.raises(DataError, match="more than one format fits"):
        read(rows(PAIR | {"completion": "c", "label": True}))


def test_a_configured_format_wins_and_the_rest_is_refused_row_by_row(rows: Rows) -> None:
    data = read(rows(PAIR, CHAT), format="pair-text")
    assert data.ledger.refused == {"prompt is not text": 1}
    assert "as configured" in data.notes[0]


def test_an_unknown_format_names_the_nearest(rows: Rows) -> None:
    with pytest.raises(DataError, match="'pair-text'"):
        read(rows(PAIR), format="pairs-text")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("choosen", "chosen"), ("reject", "rejected"), ("Prompt", "prompt"), ("promt", "prompt")],
)
def test_a_misspelt_column_is_an_error_that_names_the_right_one(wrong: str, right: str, rows: Rows) -> None:
    row = {wrong if name == right else name: value for name, value in PAIR.items()}
    with pytest.raises(DataError, match=rf"`{wrong}`: did you mean `{right}`") as caught:
        read(rows(row))
    assert f"mapping: {{{right}: {wrong}}}" in str(caught.value)
    assert read(rows(row), mapping={right: wrong}).records[0].context == "q"


def test_a_misspelt_optional_column_is_an_error_too(rows: Rows) -> None:
    with pytest.raises(DataError, match="did you mean `margin`"):
        read(rows(PAIR | {"margins": 1.0}))


def test_a_harmless_neighbour_of_a_common_name_is_no_error(rows: Rows) -> None:
    assert read(rows({"prompt": "def f():", "test": "assert f()"})).format == "prompt-text"


@pytest.mark.parametrize("column", ["task", "user_request", "problem"])
def test_a_prompt_under_another_name_gives_a_mapping_that_works(column: str, rows: Rows) -> None:
    path = rows({column: "q", "chosen": " a", "rejected": " b"})
    with pytest.raises(DataError, match=rf"mapping: {{prompt: {column}}}"):
        read(path)
    assert read(path, mapping={"prompt": column}).format == "pair-text"


def test_a_mapping_to_an_absent_column_is_an_error(rows: Rows) -> None:
    with pytest.raises(DataError, match="no row has the column `nope`"):
        read(rows(PAIR), mapping={"prompt": "nope"})


def test_unknown_columns_list_what_is_known(rows: Rows) -> None:
    with pytest.raises(DataError, match=r"columns a, b\n.*prompt, chosen, rejected"):
        read(rows({"a": 1, "b": 2}))


def test_right_columns_with_values_of_no_kind_are_an_error(rows: Rows) -> None:
    with pytest.raises(DataError, match="no row has text or messages"):
        read(rows({"prompt": 1, "chosen": 2, "rejected": 3}))


def test_the_decision_is_said(rows: Rows) -> None:
    data = read(rows(PAIR, PAIR | {"prompt": "r"}))
    assert data.notes[0] == "format pair-text: columns prompt, chosen, rejected in 2 of 2 rows"


def test_empty_files_and_files_without_a_usable_row_are_errors_with_the_ledger(rows: Rows) -> None:
    with pytest.raises(DataError, match="no rows"):
        read(rows())
    with pytest.raises(DataError, match=r"every row was refused\n.*1  read"):
        read(rows(PAIR | {"chosen": " b"}))


def test_a_misspelling_is_one_letter_or_a_cut_ending() -> None:
    assert all(
        is_misspelling(name, "chosen") for name in ("choosen", "chose", "chosne", "cosen", "CHOSEN", "chozen")
    )
    assert not any(is_misspelling(name, "chosen") for name in ("chosen_model", "choice", "rejected", "cho"))
