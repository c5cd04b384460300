"""Row identity: a row is known by its file's place in the list and by its own number, not by file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from equipoise.data.place import Place, Source, place_of
from equipoise.data.reading.read import read

Rows = Callable[..., Path]
PAIRS = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(12)]


def array(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_an_array_on_one_line_has_as_many_rows_as_elements(tmp_path: Path) -> None:
    data = read(array(tmp_path / "a.json", [row for row in PAIRS for _ in range(2)]))
    assert (data.ledger.read, data.ledger.used, data.ledger.duplicate) == (24, 12, 12)
    assert len(data) == 12
    assert [record.place.row for record in data.records] == list(range(1, 25, 2))
    assert data.ledger.first_lines()["duplicate"][0] == "a.json: row 2 (line 1) (as a.json: row 1)"


def test_one_bad_row_of_an_array_on_one_line_is_one_refusal(tmp_path: Path) -> None:
    data = read(array(tmp_path / "a.json", [*PAIRS, {**PAIRS[0], "chosen": ""}]))
    assert (data.ledger.used, data.ledger.refused) == (12, {"chosen is empty": 1})
    assert data.ledger.first_lines() == {"chosen is empty": ["a.json: row 13 (line 1)"]}


def test_the_same_file_given_twice_trains_once_and_a_note_says_so(rows: Rows, tmp_path: Path) -> None:
    path = rows(*PAIRS)
    (tmp_path / "link.jsonl").symlink_to(path)
    for second in (path, str(path), tmp_path / "." / path.name, tmp_path / "link.jsonl"):
        data = read([path, second])
        assert (data.ledger.read, data.ledger.used, data.ledger.duplicate) == (24, 12, 12)
        assert any("same file" in note for note in data.notes)


def test_two_files_of_one_name_are_not_confused(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "pairs.jsonl" for folder in ("one", "two")]
    for path, chosen in zip(paths, "ac", strict=True):
        path.parent.mkdir()
        path.write_text("".join(json.dumps(row | {"chosen": chosen}) + "\n" for row in PAIRS))
    data = read(paths)
    assert (data.ledger.used, data.ledger.duplicate) == (24, 0)
    assert len({record.id for record in data.records}) == 24
    assert [record.place.source.number for record in data.records] == [0] * 12 + [1] * 12
    assert data.ledger.files == {
        str(path): {"read": 12, "used": 12, "refused": 0, "duplicate": 0} for path in paths
    }


def test_a_place_is_named_by_line_only_where_a_line_is_a_row() -> None:
    lines, array = Source("d/f.jsonl"), Source("d/f.json", 1, by_line=False)
    assert (str(Place(lines, 2, 3)), Place(lines, 2, 3).short) == ("d/f.jsonl:3", "f.jsonl:3")
    assert str(Place(array, 2, 9)) == "d/f.json: row 2 (line 9)"
    assert str(Place(array, 2)) == "d/f.json: row 2"
    assert (Place(lines, 2, 3).id, Place(array, 2, 9).id) == ("f.jsonl:3", "f.json:2")
    assert place_of("f", 4) == Place(Source("f"), 4, 4)
