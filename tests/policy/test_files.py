"""A file is there whole or not at all."""

from __future__ import annotations

import pytest
import torch

from equipoise.policy.files import read_tensors, whole, write_json, write_tensors, write_text


def names(folder):
    return sorted(f.name for f in folder.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_a_failure_leaves_neither_target_nor_draft(tmp_path, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)
    with pytest.raises(RuntimeError), whole(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == (["a.txt"] if old else [])
    assert not old or path.read_text() == "old"


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "c"
    for content in ("first", "second"):
        with whole(path) as draft:
            draft.mkdir()
            (draft / content).write_text(content)
        assert names(path) == [content]
    with pytest.raises(RuntimeError), whole(path) as draft:
        draft.mkdir()
        raise RuntimeError
    assert names(path) == ["second"]
    assert names(tmp_path) == ["c"]


def test_a_killed_writers_draft_does_not_stand_in_the_way(tmp_path):
    (tmp_path / ".c.partial").mkdir()
    (tmp_path / ".c.partial" / "junk").write_text("x")
    with whole(tmp_path / "c") as draft:
        draft.mkdir()
    assert names(tmp_path) == ["c"]
    assert names(tmp_path / "c") == []


def test_old_content_stays_until_the_new_is_complete(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")
    with whole(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names(tmp_path) == []


def test_tensors_roundtrip_and_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    tensors = {"a": torch.randn(3, 4).T, "b": torch.tensor(1.5, dtype=torch.float64)}
    write_tensors(path, tensors, about="me")
    read, about = read_tensors(path)
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert about["about"] == "me"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="not an intact safetensors file"):
        read_tensors(path)
