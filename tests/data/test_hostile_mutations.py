"""Valid files, damaged at random: never an exception but DataError, and a ledger that adds up."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipoise.data.errors import DataError
from equipoise.data.reading.read import read, scan

PAIRS = [
    {"prompt": f"Frage {i} – ü?", "chosen": f"gut {i}", "rejected": f"schlecht {i}", "margin": i}
    for i in range(5)
]
CHAT = [
    {
        "prompt": [{"role": "user", "content": f"q{i}"}],
        "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}],
        "rejected": [{"role": "assistant", "content": "b"}],
        "tools": [{"name": "f"}],
    }
    for i in range(5)
]
LISTS = [{"prompt": f"q{i}", "responses": ["a", "b"], "rewards": [1, 0]} for i in range(5)]
UNPAIRED = [{"prompt": f"q{i}", "completion": "a", "label": True, "weight": 1} for i in range(5)]
LAYOUTS = {"pairs": PAIRS, "chat": CHAT, "lists": LISTS, "unpaired": UNPAIRED}


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(CHAT), out)
    return out.getvalue()


def arrow() -> bytes:
    out, table = io.BytesIO(), pa.Table.from_pylist(PAIRS)
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


LINES = {
    name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    for name, rows in LAYOUTS.items()
}
FILES = {
    **LINES,
    "array": json.dumps(PAIRS, indent=1).encode(),
    "columns": json.dumps({name: [row[name] for row in PAIRS] for name in PAIRS[0]}).encode(),
    "csv": b"prompt,chosen,rejected\n" + b'q1,"a, ""x""",b\n' * 2 + b"q2,c,d\n",
    "gzip": gzip.compress(LINES["pairs"]),
    "parquet": parquet(),
    "arrow": arrow(),
}
PIECES = [
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b",",
    b"\n",
    b"\x00",
    b"\xff",
    b"\\",
    b"\\ud800",
    b"NaN",
    b"null",
    b"1e999",
    b"[" * 200,
    b'"a":',
]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file with bytes changed, cut out, spliced in from another file, or repeated."""
    name = draw(st.sampled_from(list(FILES)))
    content = bytearray(FILES[name])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        end = min(len(content), at + draw(st.integers(0, 40)))
        change = draw(st.sampled_from(["flip", "cut", "end", "piece", "splice", "repeat"]))
        if change == "flip" and content:
            content[at] ^= draw(st.integers(1, 255))
        elif change == "cut":
            del content[at:end]
        elif change == "end":
            del content[at:]
        elif change == "piece":
            content[at:at] = draw(st.sampled_from(PIECES))
        elif change == "splice":
            other = FILES[draw(st.sampled_from(list(FILES)))]
            start = draw(st.integers(0, len(other) - 1))
            content[at:end] = other[start : start + draw(st.integers(1, 60))]
        else:
            content[at:at] = content[at:end]
    return name, bytes(content)


def adds_up(content: bytes, rows: int | None = None) -> None:
    """Reads the bytes; the ledger accounts for all of the rows, or DataError names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        path.write_bytes(content)
        try:
            data = read(path)
        except DataError as error:
            assert str(path) in str(error) or "mapping" in str(error)
            return
        ledger = data.ledger.as_json()
        assert ledger["read"] == ledger["used"] + sum(ledger["refused"].values()) + ledger["duplicate"]
        assert ledger["used"] == len(data.records)
        assert rows is None or ledger["read"] == rows
        stream = scan(path)
        assert sum(1 for _ in stream) == ledger["used"] and stream.ledger.as_json() == ledger


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "assistant", "text", "true", "1", "", "\u200b", "NaN"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "from",
                    "value",
                    "type",
                    "text",
                    "answer",
                    "rank",
                    "response",
                    "tool_calls",
                    "a",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
COLUMNS = [
    "prompt",
    "chosen",
    "rejected",
    "completion",
    "label",
    "responses",
    "rewards",
    "answers",
    "messages",
    "conversations",
]
COLUMNS += [
    "instruction",
    "output",
    "input",
    "history",
    "system",
    "completions",
    "context",
    "type",
    "kto_tag",
    "text",
]
COLUMNS += ["prob", "weight", "margin", "id", "tools", "chat_template_kwargs", "rationale", "images"]


@st.composite
def odd_rows(draw: st.DrawFn) -> tuple[list[Any], bytes]:
    """Rows of a known layout in which some columns have values of any kind."""
    rows: list[Any] = [dict(row) for row in LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))]]
    for _ in range(draw(st.integers(1, 4))):
        row = draw(st.sampled_from(rows))
        columns = st.sampled_from([*row, *COLUMNS])
        row[draw(columns)] = draw(JSON)
    return rows, "".join(json.dumps(row) + "\n" for row in rows).encode()


FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=2000)


@FEW
@given(damaged())
def test_a_damaged_file_is_refused_or_accounted_for(file: tuple[str, bytes]) -> None:
    adds_up(file[1])


@FEW
@given(odd_rows())
def test_values_of_any_kind_are_refused_or_read(made: tuple[list[Any], bytes]) -> None:
    adds_up(made[1], rows=len(made[0]))


@pytest.mark.nightly
@pytest.mark.slow
@MANY
@given(damaged())
def test_many_damaged_files_are_refused_or_accounted_for(file: tuple[str, bytes]) -> None:
    adds_up(file[1])


@pytest.mark.nightly
@pytest.mark.slow
@MANY
@given(odd_rows())
def test_many_values_of_any_kind_are_refused_or_read(made: tuple[list[Any], bytes]) -> None:
    adds_up(made[1], rows=len(made[0]))


def test_the_undamaged_files_are_read_whole(tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = tmp_path / name
        path.write_bytes(content)
        ledger = read(path).ledger
        assert (ledger.refused, ledger.used + ledger.duplicate) == ({}, 3 if name == "csv" else 5)
