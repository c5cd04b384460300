"""The ledger accounts for every row once, whatever happens to it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from equipoise.data.errors import DataError, Refusal
from equipoise.data.ledger import Ledger
from equipoise.data.read import read

PLACES = st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 6))


def total(ledger: Ledger) -> int:
    data = ledger.as_json()
    return data["used"] + sum(data["refused"].values()) + data["duplicate"]


@given(st.lists(st.tuples(PLACES, st.sampled_from(["use", "empty", "long"]), st.booleans()), max_size=20))
def test_the_sum_is_exact_after_any_order_of_use_refusal_and_truncation(
    events: list[tuple[tuple[str, int], str, bool]],
) -> None:
    ledger = Ledger()
    for place, event, cut in events:
        if event != "use":
            ledger.refuse(place, Refusal(event))
        elif place not in ledger._refused:
            ledger.use(place)
            if cut:
                ledger.truncate(place)
    assert ledger.read == len({place for place, _, _ in events}) == total(ledger)
    assert ledger.truncated <= ledger.used


ANSWERS = st.sampled_from(["", " ", "yes", "no", None, 3, "NUL\x00"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {"prompt": st.sampled_from(["q", "r", ""]), "chosen": ANSWERS, "rejected": ANSWERS},
        optional={"prob": st.sampled_from([0.5, 2, "x", float("nan")]), "margin": st.sampled_from(["1", 2])},
    ),
    max_size=12,
)


@given(ROWS)
def test_reading_any_rows_balances_or_says_why_not(written: list[dict[str, Any]]) -> None:
    import json

    good = {"prompt": "always", "chosen": "a", "rejected": "b"}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in [good, *written]))
        data = read(path)
    assert data.ledger.read == len(written) + 1 == total(data.ledger)
    assert data.ledger.used == len(data.records)


def test_refusing_twice_counts_once_and_keeps_the_first_reason() -> None:
    ledger = Ledger()
    ledger.use(("f", 1))
    ledger.truncate(("f", 1))
    ledger.refuse(("f", 1), Refusal("too long"))
    ledger.refuse(("f", 1), Refusal("too long"))
    assert ledger.as_json() | {"first_lines": 0, "notes": 0} == {
        "read": 1,
        "used": 0,
        "refused": {"too long": 1},
        "truncated": 0,
        "truncated_by_side": {},
        "duplicate": 0,
        "repaired": {},
        "first_lines": 0,
        "notes": 0,
    }


def test_a_ledger_out_of_balance_is_never_written() -> None:
    ledger = Ledger()
    ledger.use(("f", 1))
    ledger.repeat(("f", 1), ("f", 0))
    with pytest.raises(AssertionError, match="does not balance"):
        ledger.as_json()


def test_strict_raises_at_the_first_refusal() -> None:
    with pytest.raises(DataError, match="f:3: too long"):
        Ledger(strict=True).refuse(("f", 3), Refusal("too long"))


def test_only_the_first_lines_of_a_reason_are_shown() -> None:
    ledger = Ledger(max_errors_shown=2)
    for line in range(1, 6):
        ledger.refuse(("dir/f", line), Refusal("empty", "chosen"))
    assert ledger.first_lines() == {"empty": ["f:1 (chosen)", "f:2 (chosen)"]}
    assert "5  refused: empty" in str(ledger)


def test_the_table_prints_markup_of_the_data_literally() -> None:
    ledger = Ledger()
    ledger.refuse(("f", 1), Refusal("label", "'[bold]x[/bold]'"))
    out = StringIO()
    Console(file=out, width=120).print(ledger.table())
    assert "[bold]x[/bold]" in out.getvalue()
