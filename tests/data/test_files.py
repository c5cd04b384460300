"""Kinds of files, folders, the Hub and standard input: the content decides, and what is a choice is refused."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files import bounds, csv_rows, hub, json_rows, json_values, open_bytes
from equipoise.data.files.arrow_rows import parquet_rows
from equipoise.data.files.first_rows import copy_rows
from equipoise.data.files.folders import chosen, split_of
from equipoise.data.files.foreign import refuse_text
from equipoise.data.reading.read import read
from equipoise.data.reading.read_files import inputs_of, rows_of

Rows = Callable[..., Path]
PAIRS = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in PAIRS)


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def shard(path: Path, rows: list[dict[str, Any]] = PAIRS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


# -- separated values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_are_text_and_a_column_of_json_is_parsed(delimiter: str, tmp_path: Path) -> None:
    turns = json.dumps([{"role": "user", "content": "say 1"}]).replace('"', '""')
    content = delimiter.join(("prompt", "chosen", "rejected", "meta")) + "\r\n"
    content += delimiter.join((f'"{turns}"', "7", '"two\nlines"', "[x")) + "\r\n"
    content += delimiter.join((f'"{turns}"', "8", "b", "")) + "\r\n"
    rows = list(rows_of(written(tmp_path / "f", "\ufeff" + content)))
    asked = [{"role": "user", "content": "say 1"}]
    assert rows == [
        (2, {"prompt": asked, "chosen": "7", "rejected": "two\nlines", "meta": "[x"}),
        (4, {"prompt": asked, "chosen": "8", "rejected": "b", "meta": ""}),
    ]


def test_a_column_with_one_cell_that_is_no_json_stays_text(tmp_path: Path) -> None:
    content = 'prompt,chosen,rejected\n"[1]",a,b\n"[sic]",a,b\n'
    assert [row["prompt"] for _, row in rows_of(written(tmp_path / "f", content))] == ["[1]", "[sic]"]


def test_a_row_of_values_is_named_by_the_line_it_begins_on(tmp_path: Path) -> None:
    data = read(written(tmp_path / "f.csv", 'prompt,chosen,rejected\n"q\n1",a,b\n"q\n2",,b\nq3,a,b\nq4,a\n'))
    assert data.ledger.first_lines() == {
        "chosen is empty": ["f.csv:4"],
        "not as many cells as the header has": ["f.csv:7 (2 of 3)"],
    }


def test_a_cell_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    (_, row), *_ = rows_of(written(tmp_path / "f", f"prompt,chosen\n{'q' * 300_000},a\nq,b\n"))
    assert len(row["prompt"]) == 300_000


# -- objects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_of_columns_is_read_as_rows(indent: int | None, tmp_path: Path) -> None:
    columns = {name: [row[name] for row in PAIRS] for name in PAIRS[0]}
    data = read(written(tmp_path / "f.json", json.dumps(columns, indent=indent)))
    assert [record.context for record in data.records] == ["q0", "q1", "q2", "q3"]
    assert str(data.records[2].place).endswith("f.json: row 3")


def test_one_row_of_messages_is_no_object_of_columns(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    row = {"chosen": turn, "rejected": [turn[0], {"role": "assistant", "content": "b"}]}
    assert len(read(written(tmp_path / "f.json", json.dumps(row)))) == 1


def test_rows_inside_an_object_are_refused_with_the_way_out(tmp_path: Path) -> None:
    for indent in (None, 2):
        path = written(tmp_path / "f.json", json.dumps({"version": 1, "data": PAIRS}, indent=indent))
        with pytest.raises(DataError, match=r"jq -c '\.\[\"data\"\]\[\]' FILE"):
            read(path)


def test_a_mark_of_byte_order_between_joined_files_is_passed_over(tmp_path: Path) -> None:
    path = written(
        tmp_path / "f", b"\xef\xbb\xbf" + LINES.encode() + b"\xef\xbb\xbf" + LINES.replace("q", "r").encode()
    )
    assert len(read(path)) == 8


# -- what is no file of rows ---------------------------------------------------------------------------------------


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(link)
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)
        server.bind("sock")
        for path, why in ((pipe, "named pipe"), (tmp_path / "sock", "socket"), (Path("/dev/zero"), "device")):
            with pytest.raises(DataError, match=f"{why}.*\n.*standard input"):
                read(path)
    for bad in (link, tmp_path / "absent", tmp_path / ("x" * 400)):
        with pytest.raises(DataError, match=bad.name[:50]):
            read(bad)
    with pytest.raises(DataError, match="not a file name"):
        read("a\x00b")


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"),
        ("<!doctype html><p>", "HTML page"),
        ("<?xml version='1.0'?>", "XML"),
        ("- prompt: q\n", "YAML"),
        ("prompt: q\n", "YAML"),
    ],
)
def test_texts_without_rows_are_told_apart(start: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        refuse_text(start, "f")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_other_encodings_are_named_with_a_command(encoding: str, tmp_path: Path) -> None:
    name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
    with pytest.raises(DataError, match=f"the text is {name}.*\n.*iconv -f {name}"):
        read(written(tmp_path / "f", LINES.encode(encoding)))


# -- bounds --------------------------------------------------------------------------------------------------------


def test_a_line_longer_than_the_bound_is_one_refused_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "LINE", 300)
    long = json.dumps(PAIRS[0] | {"chosen": "x" * 2000}) + "\n"
    rows = list(rows_of(written(tmp_path / "f", LINES + long + LINES)))
    assert [isinstance(row, Refusal) for _, row in rows] == [False] * 4 + [True] + [False] * 4
    assert [line for line, _ in rows] == list(range(1, 10))


def test_an_array_element_without_end_stops_at_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "LINE", 1 << 16)
    monkeypatch.setattr(json_rows, "CHUNK", 1 << 12)
    with pytest.raises(DataError, match="an element of the array"):
        list(rows_of(written(tmp_path / "f", '["' + "x" * (1 << 19))))


def test_compressed_data_may_not_expand_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr(open_bytes, "EXPANDED", 1 << 20)
    with pytest.raises(DataError, match=r"expands to more than 1 MiB, over 200 times its size"):
        read(written(tmp_path / "f.gz", gzip.compress(b"{}\n" * 1_500_000)))
    assert len(read(written(tmp_path / "g.gz", gzip.compress(LINES.encode())))) == 4


def test_standard_input_is_read_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from equipoise.data.reading import read_files

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES.encode())))
    data = read("-")
    assert (len(data), str(data.records[1].place)) == (4, "standard input:2")
    with pytest.raises(DataError, match="once only"):
        read(["-", "-"])
    monkeypatch.setattr(read_files, "STANDARD_INPUT", 10)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES.encode())))
    with pytest.raises(DataError, match="standard input is longer"):
        read("-")


def test_more_columns_than_any_data_set_has_are_keys_that_should_be_values(tmp_path: Path) -> None:
    rows = "".join(json.dumps({f"user-{i}-{j}": 1 for j in range(100)}) + "\n" for i in range(101))
    with pytest.raises(DataError, match=r"f:101: the rows have more than 10,000 different columns"):
        read(written(tmp_path / "f", rows))


@pytest.mark.parametrize(
    ("text", "levels"),
    [("1", 0), ("[]", 1), ('{"a": {"b": 1}}', 2), ('[{"a": [1]}, [[[]]]]', 4), ('["[[[[["]', 1)],
)
def test_depth_counts_lists_and_objects_inside_each_other(text: str, levels: int) -> None:
    assert json_values.depth(json.loads(text)) == levels
    assert not levels or json_values.end_of(text, 0) == (len(text), levels)


def test_depth_at_the_bound_is_read_and_one_more_is_not() -> None:
    values = json_values.JsonValues()
    at = "[" * bounds.DEPTH + "]" * bounds.DEPTH
    assert values.whole(at) == json.loads(at)
    assert isinstance(values.whole(f"[{at}]"), Refusal)
    assert isinstance(values.at(f" [{at}] ", 1)[0], Refusal) and values.at(f" [{at}] ", 1)[1] == len(at) + 3


# -- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/train_prefs-00000-of-00001.parquet", "train_prefs"),
        ("train.jsonl", "train"),
        ("test/part-3.jsonl.gz", "test"),
        ("validation_2.csv", "validation"),
        ("data-00000-of-00001.arrow", ""),
        ("pairs.jsonl", ""),
        ("trainer_notes.jsonl", ""),
        ("data/pairs-train-001.jsonl", "pairs-train"),
    ],
)
def test_the_split_of_a_file_is_told_by_its_name(name: str, split: str) -> None:
    assert split_of(name) == split


def test_a_folder_of_shards_is_one_data_set(tmp_path: Path) -> None:
    for number in range(2):
        shard(tmp_path / f"data/train-0000{number}-of-00002.parquet", PAIRS[2 * number : 2 * number + 2])
    written(tmp_path / "README.md", "# about")
    written(tmp_path / "dataset_infos.json", "{}")
    written(tmp_path / ".cache/x.jsonl", LINES)
    data = read(tmp_path)
    assert [record.context for record in data.records] == ["q0", "q1", "q2", "q3"]
    assert data.ledger.files == {str(tmp_path): {"read": 4, "used": 4, "refused": 0, "duplicate": 0}}


def test_splits_are_chosen_by_the_user_and_never_guessed(tmp_path: Path) -> None:
    shard(tmp_path / "data/train-00000-of-00001.parquet")
    shard(tmp_path / "data/test-00000-of-00001.parquet", PAIRS[:1])
    with pytest.raises(DataError, match=f"several splits: test, train\n.*{tmp_path.name}:test"):
        read(tmp_path)
    assert len(read(f"{tmp_path}:train")) == 4
    with pytest.raises(DataError, match="no split 'dev'\n  it has: test, train"):
        read(f"{tmp_path}:dev")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["train.jsonl", "train.parquet"], r"several kinds of file: \.jsonl, \.parquet"),
        (["en/train.jsonl", "fr/train.jsonl"], "several folders: en, fr"),
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], "2 of 3 shards"),
        (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"], "shards are there"),
        (["README.md", "state.json"], "no data files"),
        (["data-00000-of-00001.arrow", "indices.arrow"], "selects its rows by an index"),
        (["pairs.jsonl", "test.jsonl"], "several splits: test and other files"),
    ],
)
def test_folders_that_leave_a_choice_are_refused(names: list[str], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        chosen(names, None, "folder")


def test_a_saved_data_set_is_read(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(PAIRS)
    for split in ("train", "test"):
        path = tmp_path / split / "data-00000-of-00001.arrow"
        path.parent.mkdir()
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
        written(tmp_path / split / "state.json", "{}")
        written(tmp_path / split / "dataset_info.json", "{}")
    written(tmp_path / "dataset_dict.json", '{"splits": ["train", "test"]}')
    assert len(read(tmp_path / "train")) == len(read(f"{tmp_path}:test")) == 4
    with pytest.raises(DataError, match="several splits"):
        read(tmp_path)


# -- the Hub -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder in place of the Hub."""
    root = tmp_path / "hub"
    root.mkdir()
    monkeypatch.setattr(hub, "filesystem", lambda: DirFileSystem(str(root), LocalFileSystem()))
    return root / "datasets"


def test_a_data_set_of_the_hub_is_read_by_split_or_by_path(fake_hub: Path) -> None:
    shard(fake_hub / "me/pairs/data/train-00000-of-00001.parquet")
    shard(fake_hub / "me/pairs/data/test-00000-of-00001.parquet", PAIRS[:1])
    data = read("hf://me/pairs:train")
    assert len(data) == 4
    assert data.records[0].place.file == "hf://datasets/me/pairs/data/train-00000-of-00001.parquet"
    assert data.records[0].place.source.listed == "hf://me/pairs:train"
    assert len(read("hf://datasets/me/pairs/data/test-00000-of-00001.parquet")) == 1
    with pytest.raises(DataError, match=r"several splits: test, train\n.*hf://me/pairs:test"):
        read("hf://me/pairs")


def test_what_the_hub_does_not_have_is_one_sentence(fake_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"hf://me/absent: no such data set.*\n.*log in"):
        read("hf://me/absent")
    for address in ("hf://me", "hf://", "hf://me/pairs/../../../etc/passwd"):
        with pytest.raises(DataError, match="not an address of a data set"):
            read(address)

    def offline() -> Any:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(hub, "filesystem", offline)
    with pytest.raises(
        DataError, match=r"the Hugging Face Hub cannot be reached: Name or service not known\n"
    ):
        read("hf://me/pairs")


def test_of_the_hub_no_more_is_fetched_than_a_limit_reads(
    fake_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        rows = [dict(PAIRS[0], prompt=f"{number} {n}") for n in range(500)]
        shard(fake_hub / f"me/pairs/data/train-{number:05}-of-00003.parquet", rows)
    opened: list[str] = []
    whole = hub.filesystem()
    real = type(whole).open
    monkeypatch.setattr(
        type(whole), "open", lambda self, path, *a, **k: opened.append(path) or real(self, path, *a, **k)
    )
    monkeypatch.setattr(type(whole), "get_file", lambda *_, **__: pytest.fail("a file was copied whole"))
    for limit, shards in ((3, 1), (500, 1), (501, 2), (1200, 3)):
        opened.clear()
        data = read("hf://me/pairs", limit=limit)
        assert [record.context for record in data.records] == [f"{n // 500} {n % 500}" for n in range(limit)]
        assert len(opened) == shards
        assert f"limit {limit}: later rows were not read" in data.notes
    opened.clear()
    assert len(read({"path": "hf://me/pairs", "limit": 2}, limit=700)) == 2 and len(opened) == 1


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        ("f.jsonl", b"\n".join([LINES.encode().split(b"\n")[0], b"", b"  "] * 9), 2),
        ("f.jsonl", LINES.encode(), 2),
        ("f.json", b'[{"prompt": "q"}]', None),
        ("f.parquet", b"PAR1 and no more", None),
    ],
)
def test_first_rows_are_copied_where_a_file_can_be_read_in_pieces(
    name: str, content: bytes, count: int | None, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert copy_rows(LocalFileSystem(), str(tmp_path / name), tmp_path / "copy", 2) == count
    if count is not None:
        kept = (tmp_path / "copy").read_bytes()
        assert content.startswith(kept) and sum(bool(line.strip()) for line in kept.split(b"\n")) == 2


def test_a_parquet_file_is_read_in_pieces_however_large_its_groups_are(tmp_path: Path) -> None:
    """A file of 63 MiB in one group: a hundred rows of it take a third of that, mostly what is decoded for one page."""
    rows = [
        {"prompt": f"{n} " + "p" * 5000, "chosen": "c" * 5000, "rejected": "r" * 5000} for n in range(4400)
    ]
    pq.write_table(
        pa.Table.from_pylist(rows), tmp_path / "f.parquet", compression="none", use_dictionary=False
    )
    del rows
    before = pa.total_allocated_bytes()
    iterator = parquet_rows(tmp_path / "f.parquet", "f")
    seen = [next(iterator)[1]["prompt"][:5] for _ in range(100)]
    assert seen[0].startswith("0 ") and pa.total_allocated_bytes() - before < 32 * 2**20


def test_a_bare_name_gets_the_hint_that_it_may_be_on_the_hub() -> None:
    with pytest.raises(DataError, match=r"no such file\n.*write hf://me/pairs$"):
        read("me/pairs")


def test_every_input_has_a_number_and_a_label_of_its_own(tmp_path: Path) -> None:
    paths = [written(tmp_path / folder / "f.jsonl", LINES) for folder in "abc"]
    inputs = inputs_of([*paths, paths[0]])
    assert [item.source.number for item in inputs] == [0, 1, 2, 3]
    assert [item.source.label for item in inputs] == ["f.jsonl", "f.jsonl (2)", "f.jsonl (3)", "f.jsonl (4)"]


def test_the_delimiter_is_the_one_that_makes_equal_rows() -> None:
    assert csv_rows.delimiter_of("a;b\n1,2;3\n4;5\n") == ";"
    assert csv_rows.delimiter_of("prompt,chosen\nx; y,z\n") == ","
    assert csv_rows.delimiter_of("This is prose, is it not\nand more\n") is None
    assert csv_rows.delimiter_of("1,2\n3,4\n") is None
