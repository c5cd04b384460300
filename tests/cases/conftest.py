"""What every case uses: model folders made once, rows written as files, and the command line called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cases.families import FAMILIES
from equipoise.cli.app import main

SMALL = "--set batch=4 lr=1e-3 max_new_tokens=8 evaluate.samples=1 evaluate.prompts=2 evaluate.pairs=4 tokens=4096"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a family's model, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("models")

    def of(name: str) -> str:
        if not (folder / name).exists():
            FAMILIES[name]().save(folder / name)
        return str(folder / name)

    return of


@dataclass(frozen=True)
class Called:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return " ".join((self.out + self.err).split())


@pytest.fixture
def equipoise(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """equipoise("data check rows.jsonl"): the command in the test's folder; a traceback fails the test by itself."""
    monkeypatch.chdir(tmp_path)

    def call(command: str, *more: str) -> Called:
        capsys.readouterr()
        code = 0
        try:
            main([*command.split(), *more])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        printed = capsys.readouterr()
        return Called(code, printed.out, printed.err)

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """write(rows, "rows.jsonl"): rows as a file of the test's folder."""

    def rows_into(rows: Sequence[Any], name: str = "rows.jsonl") -> str:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return name

    return rows_into
