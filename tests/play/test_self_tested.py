"""The minimax choice of code and test (DSTC): by hand, and its properties on every small table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from equipoise.play.pairings.self_tested import Choice, SelfTested, minimax
from equipoise.play.players.code_and_tests import CodeAndTests

TABLES = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6))


def choice(table: list[list[int]], read: list[int] | None = None) -> Choice | None:
    passed = np.array(table, dtype=bool)
    return minimax(passed, np.ones(passed.shape[1], bool) if read is None else np.array(read, dtype=bool))


def test_the_choice_of_a_table_by_hand():
    """Code 1 passes three tests; of these test 2 is passed by one code alone. Test 0 is the easiest that some code
    fails, and code 2 is the worst that fails it."""
    table = [
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [0, 1, 0, 0],
        [1, 1, 0, 0],
    ]
    assert choice(table) == Choice(code=1, test=2, rejected_code=2, rejected_test=0)


def test_the_rejected_code_is_the_one_with_the_fewest_passes_among_those_that_fail():
    assert choice([[1, 1, 1], [0, 1, 0], [0, 0, 0]]) == Choice(0, 0, 2, 1)
    assert choice([[1, 0, 1], [1, 1, 0], [0, 0, 0]]) == Choice(0, 2, 2, 0)


def test_nothing_is_chosen_where_all_pass_or_none_does():
    assert choice([[1, 1], [1, 1]]) is None
    assert choice([[0, 0], [0, 0]]) is None


def test_a_test_that_cannot_be_read_takes_no_part():
    """Without the first column the table is all ones; unread alone, nothing is left."""
    assert choice([[0, 1], [0, 1]], read=[0, 1]) is None
    assert choice([[0, 1], [0, 0]], read=[1, 1]) == Choice(0, 1, 1, 1)
    assert choice([[0, 1], [0, 0]], read=[1, 0]) is None


@given(TABLES)
def test_the_chosen_code_passes_the_chosen_test_and_the_rejected_one_fails_the_rejected_test(
    table: np.ndarray,
):
    made = minimax(table, np.ones(table.shape[1], bool))
    easy = table.sum(axis=0)
    if made is None:
        assert not table.any() or not (easy < len(table)).any()
        return
    assert table[made.code, made.test] and not table[made.rejected_code, made.rejected_test]
    assert table[made.code].sum() == table.sum(axis=1).max()
    assert easy[made.test] == easy[table[made.code]].min()
    assert easy[made.rejected_test] == easy[easy < len(table)].max()


@given(TABLES, st.randoms())
def test_the_order_of_codes_and_tests_matters_in_ties_only(table: np.ndarray, draw: st.DataObject):
    """What the choice depends on, the passes of the chosen codes and tests, is the same in every order."""
    rows, columns = ([*range(size)] for size in table.shape)
    draw.shuffle(rows)  # type: ignore[attr-defined]
    draw.shuffle(columns)  # type: ignore[attr-defined]
    turned = table[rows][:, columns]
    made, again = (minimax(t, np.ones(t.shape[1], bool)) for t in (table, turned))
    assert (made is None) == (again is None)
    if made and again:
        assert table[made.code].sum() == turned[again.code].sum()
        assert table[:, made.rejected_test].sum() == turned[:, again.rejected_test].sum()
        if len(set(table.sum(axis=1))) == len(table) and len(set(table.sum(axis=0))) == table.shape[1]:
            back = Choice(rows[again.code], columns[again.test], rows[again[2]], columns[again[3]])
            assert back == made


@given(TABLES)
def test_another_copy_of_the_best_code_is_still_the_best(table: np.ndarray):
    read = np.ones(table.shape[1], bool)
    made = minimax(table, read)
    if made is not None:
        more = np.concatenate([table, table[made.code : made.code + 1]])
        again = minimax(more, read)
        assert again is None or again.code == made.code


def test_what_cannot_be_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="at least two codes and one test per problem, got 1 and 4"):
        CodeAndTests(codes=1, tests=4)
    with pytest.raises(ValueError, match=r"ask_test must hold \{prompt\}"):
        CodeAndTests(ask_test="a test")
    with pytest.raises(ValueError, match=r"joined must hold \{code\} and \{test\}"):
        SelfTested(joined="{code}")
    with pytest.raises(ValueError, match="set codes and tests"):
        CodeAndTests().writing(4)
