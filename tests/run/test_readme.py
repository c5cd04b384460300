"""The README's Python runs as it stands there, more than once in one process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import equipoise
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A folder with the model and the data that the README names."""
    shutil.copytree(model_path(), tmp_path / "path" / "to" / "model")
    write_pairs(tmp_path / "pairs.jsonl", LanguageGame(), 24, seed=1, reference=reference_policy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_has_python():
    assert BLOCKS


@pytest.mark.slow
def test_every_block_runs_twice(at_home):
    for block in BLOCKS:
        for _ in range(2):
            names: dict[str, Any] = {}
            exec(compile(block, "README.md", "exec"), names)
    run = names["run"]
    assert run.report.is_file() and run.checkpoint.is_dir() and "accuracy" in run.summary
    assert (at_home / "runs" / "spac").samefile(run.folder)


def test_the_package_says_the_same(at_home):
    heading, _, example = (equipoise.__doc__ or "").partition("\n\n")
    assert heading
    for line in example.strip().splitlines()[:2]:
        assert any(line in block for block in BLOCKS), line
