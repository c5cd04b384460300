"""A file is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

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


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_are_readable_as_the_users_umask_says(tmp_path, mask):
    old = os.umask(mask)
    try:
        write_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(2)})
        with whole(tmp_path / "folder") as draft:
            (draft / "deep").mkdir(parents=True)
            write_tensors(draft / "deep" / "t.safetensors", {"a": torch.zeros(2)})
    finally:
        os.umask(old)
    for path in tmp_path.rglob("*.safetensors"):
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folders_files_folders_and_its_own_entry_are_flushed(tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda h: (flushed.append(str(Path(f"/proc/self/fd/{h}").readlink())), fsync(h))
    )
    with whole(tmp_path / "c") as draft:
        (draft / "deep").mkdir(parents=True)
        (draft / "deep" / "a").write_text("x")
    parts = {os.path.relpath(path, tmp_path) for path in flushed}
    assert parts == {".c.partial/deep/a", ".c.partial/deep", ".c.partial", "."}
    assert flushed[-1] == str(tmp_path)
