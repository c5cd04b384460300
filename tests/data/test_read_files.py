"""Files: every container gives the same rows, and damage is named by place."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.errors import DataError
from equipoise.data.files import json_rows
from equipoise.data.reading.read_files import rows_of

ROWS = [{"prompt": f"question {i} – ünï", "n": i} for i in range(5)]
WRITABLE = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def contents() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.Table.from_pylist(ROWS), Path(folder) / "t")
        parquet = (Path(folder) / "t").read_bytes()
    return {
        "json lines": LINES.encode(),
        "no newline at the end": LINES.rstrip().encode(),
        "byte order mark": b"\xef\xbb\xbf" + LINES.encode(),
        "CR LF": LINES.replace("\n", "\r\n").encode(),
        "blank lines": LINES.replace("\n", "\n\n").encode(),
        "array": json.dumps(ROWS).encode(),
        "indented array with byte order mark": b"\xef\xbb\xbf" + json.dumps(ROWS, indent=2).encode(),
        "gzip": gzip.compress(LINES.encode()),
        "gzipped array": gzip.compress(json.dumps(ROWS).encode()),
        "zstd": pa.compress(LINES.encode(), codec="zstd", asbytes=True),
        "parquet": parquet,
    }


CONTENTS = contents()


@pytest.mark.parametrize("container", CONTENTS)
def test_every_container_gives_the_same_rows_whatever_its_name(container: str, tmp_path: Path) -> None:
    path = tmp_path / "file.anything"
    path.write_bytes(CONTENTS[container])
    assert [row for _, row in rows_of(path)] == ROWS


def test_a_row_of_an_array_is_named_by_the_line_it_begins_on(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3}\n]')
    assert list(rows_of(path)) == [(2, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]


def test_an_array_longer_than_the_window_is_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "CHUNK", 7)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, ensure_ascii=False, indent=1), encoding="utf-8")
    assert [row for _, row in rows_of(path)] == ROWS


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('{"a": 1}\n{"a": oops}\n{"a": 2}\n', 2, 7),
        ('{"a": 1}\n{"a": 2,}\n', 2, 8),
        ('[{"a": 1},\n {"a": oops}]', 2, 8),
        ('[{"a": 1}, ]', 1, 12),
        ('[{"a": 1}\n {"a": 2}]', 2, 2),
        ('[{"a": 1}] 7', 1, 12),
    ],
)
def test_a_broken_place_is_named_by_line_and_column(
    text: str, line: int, column: int, tmp_path: Path
) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(DataError, match="broken JSON") as caught:
        list(rows_of(path))
    assert (caught.value.file, caught.value.line) == (str(path), line)
    # Python 3.13 moved the position of a trailing comma's error by one
    assert abs((caught.value.column or 0) - column) <= 1


@pytest.mark.parametrize(
    "text", ['{"a": 1}\n{"a": "unfini', '{"a": 1}\n{"a": ', '[{"a": 1},\n{"a": "unfini', '[{"a": 1}']
)
def test_a_cut_file_is_an_error_that_says_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(DataError, match="the file ends in the middle of a row"):
        list(rows_of(path))


@pytest.mark.parametrize("start", [b'{"a": "', b'[{"b": 1}, {"a": "', b'\xef\xbb\xbf[{"a": "'])
def test_invalid_utf8_is_refused_with_its_byte_offset(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(start + "é".encode() + b"\xff" + b'"}')
    with pytest.raises(DataError, match=f"byte offset {len(start) + 2}$|byte offset {len(start) + 2}\n"):
        list(rows_of(path))


@pytest.mark.parametrize("chunk", [1, 2, 3, 64])
def test_the_byte_offset_in_an_array_does_not_depend_on_the_window(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "CHUNK", chunk)
    path = tmp_path / "f.json"
    path.write_bytes(b'["\xe2\x82' + b'"]')  # the third byte of a three-byte character is missing
    with pytest.raises(DataError, match=r"byte offset 2\n"):
        list(rows_of(path))


def test_cut_compressed_files_missing_files_and_folders_are_errors(tmp_path: Path) -> None:
    for name in ("gzip", "zstd", "parquet"):
        path = tmp_path / name.replace(" ", "_")
        path.write_bytes(CONTENTS[name][:-12])
        with pytest.raises(DataError, match=path.name):
            list(rows_of(path))
    with pytest.raises(DataError, match="no such file"):
        list(rows_of(tmp_path / "absent"))
    with pytest.raises(DataError, match="folder"):
        list(rows_of(tmp_path))


@given(
    st.lists(
        st.dictionaries(
            st.text(WRITABLE, max_size=3),
            st.none() | st.booleans() | st.integers() | st.text(WRITABLE),
            max_size=3,
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_what_is_written_is_read_back(written: list[dict[str, object]], as_array: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        text = json.dumps(written) if as_array else "".join(json.dumps(row) + "\n" for row in written)
        path.write_text(text, encoding="utf-8")
        assert [row for _, row in rows_of(path)] == written


def test_closed_standard_input_and_an_empty_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        list(rows_of("-"))
    with pytest.raises(DataError, match="a file without a name"):
        list(rows_of(" "))


def test_one_row_whose_lists_have_one_length_is_no_table_of_columns(tmp_path: Path) -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    row = {"prompt": turns, "responses": [[turns[1]]] * 3, "rewards": [1.0, 2.0, 3.0]}
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert [found for _, found in rows_of(path)] == [row]
