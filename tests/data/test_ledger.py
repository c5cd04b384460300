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
from equipoise.data.ledger import Ledger, Remark
from equipoise.data.place import Place, Source, place_of
from equipoise.data.reading.read import read

SOURCES = [Source("a", 0), Source("b", 1, by_line=False), Source("a", 2, label="a (2)")]
PLACES = st.builds(Place, st.sampled_from(SOURCES), st.integers(1, 6), st.just(1))


def total(ledger: Ledger) -> int:
    data = ledger.as_json()
    return data["used"] + sum(data["refused"].values()) + data["duplicate"]


@given(st.lists(st.tuples(PLACES, st.sampled_from(["use", "empty", "long"]), st.booleans()), max_size=20))
def test_the_sum_is_exact_after_any_order_of_use_refusal_and_truncation(
    events: list[tuple[Place, str, bool]],
) -> None:
    ledger = Ledger()
    refused, cuts = set(), set()
    for place, event, cut in events:
        if event != "use":
            ledger.refuse(place, Refusal(event))
            refused.add(place)
        elif place not in refused:
            ledger.use(place)
            if cut:
                ledger.truncate(place, ["chosen"])
                ledger.cut_prompt(place)
                cuts.add(place)
    assert ledger.read == len({place for place, _, _ in events}) == total(ledger)
    assert ledger.truncated == len(cuts - refused) == ledger.remarks.get("prompt cut", 0)
    assert ledger.truncated_by_side.get("chosen", 0) == len(cuts - refused)
    files = ledger.as_json()["files"]
    assert {name: own["refused"] for name, own in files.items()} == {
        name: sum(place.file == name for place in refused) for name in {place.file for place, _, _ in events}
    }


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
    ledger, place = Ledger(), place_of("f", 1)
    ledger.use(place)
    ledger.truncate(place)
    ledger.refuse(place, Refusal("too long"))
    ledger.refuse(place, Refusal("too short"))
    assert ledger.as_json() == {
        "read": 1,
        "used": 0,
        "refused": {"too long": 1},
        "truncated": 0,
        "truncated_by_side": {},
        "duplicate": 0,
        "repaired": {},
        "remarks": {},
        "files": {"f": {"read": 1, "used": 0, "refused": 1, "duplicate": 0}},
        "first_lines": {"too long": ["f:1"]},
        "notes": [],
    }


def test_a_row_cannot_be_two_things() -> None:
    ledger = Ledger()
    ledger.use(place_of("f", 1))
    with pytest.raises(AssertionError, match="f:1 is USED and DUPLICATE"):
        ledger.repeat(place_of("f", 1), place_of("f", 2))
    with pytest.raises(AssertionError, match="f and g are both source 0"):
        ledger.use(place_of("g", 1))


def test_a_ledger_out_of_balance_is_never_written() -> None:
    ledger = Ledger()
    ledger.use(place_of("f", 1))
    ledger.used += 1
    with pytest.raises(AssertionError, match="does not balance"):
        ledger.as_json()


def test_strict_raises_at_the_first_refusal() -> None:
    with pytest.raises(DataError, match="f:3: too long"):
        Ledger(strict=True).refuse(place_of("f", 3), Refusal("too long"))
    array = Source("f.json", by_line=False)
    with pytest.raises(DataError, match=r"^f\.json: row 4: too long"):
        Ledger(strict=True).refuse(Place(array, 4, 1), Refusal("too long"))


def test_only_the_first_lines_of_a_reason_are_shown() -> None:
    ledger = Ledger(max_errors_shown=2)
    for line in range(1, 6):
        ledger.refuse(place_of("dir/f", line), Refusal("empty", "chosen"))
    assert ledger.first_lines() == {"empty": ["f:1 (chosen)", "f:2 (chosen)"]}
    assert "5  refused: empty" in str(ledger)


def test_remarks_count_used_rows_once_and_name_the_first() -> None:
    ledger = Ledger()
    for row in (1, 2, 3):
        ledger.use(place_of("f", row))
        ledger.remark(place_of("f", row), Remark.WEIGHT_ZERO)
        ledger.remark(place_of("f", row), Remark.WEIGHT_ZERO)
    ledger.cut_prompt(place_of("f", 2))
    ledger.refuse(place_of("f", 1), Refusal("too long"))
    assert ledger.remarks == {"prompt cut": 1, "weight 0": 2}
    assert ledger.first_lines() == {"too long": ["f:1"], "weight 0": ["f:2", "f:3"], "prompt cut": ["f:2"]}


def test_the_table_prints_markup_of_the_data_literally() -> None:
    ledger = Ledger()
    ledger.refuse(place_of("f", 1), Refusal("label", "'[bold]x[/bold]'"))
    out = StringIO()
    Console(file=out, width=120).print(ledger.table())
    assert "[bold]x[/bold]" in out.getvalue()


def test_nothing_that_the_ledger_prints_steers_a_terminal() -> None:
    ledger = Ledger()
    evil = "a\x1b]0;title\x07\u202e\u200b\ud800\n\x9b2J"
    ledger.refuse(place_of(f"dir/{evil}", 1), Refusal(f"no column `{evil}`", evil))
    ledger.note(evil)
    shown = "a\\x1b]0;title\\x07\\u202e\\u200b\\ud800\\n\\x9b2J"
    assert ledger.notes == [shown]
    assert ledger.first_lines() == {f"no column `{shown}`": [f"{shown}:1 ({shown})"]}
    assert str(ledger).isprintable() or set("".join(str(ledger).split("\n"))) <= set(map(chr, range(32, 127)))
