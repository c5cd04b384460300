"""The tutorials and how-to guides run as they are written, each in a folder with the practice files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import equipoise
from oracles.chat_server import between, serving, winner
from run_page import run_page

ROOT = Path(__file__).resolve().parents[2]
PRACTICE = ROOT / "docs/tutorials/README.md"
LOOKED_FOR = (
    ROOT / "docs/tutorials/lora_after_sft.md"
)  # the others repeat what other tests ask of their commands
GUIDES = [
    page
    for page in (
        *sorted((ROOT / "docs/tutorials").glob("*.md")),
        *sorted((ROOT / "docs/how_to").glob("*.md")),
    )
    if "```sh\n" in page.read_text(encoding="utf-8") and page not in (PRACTICE, LOOKED_FOR)
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell in which `equipoise` and `python` are those of the tests."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, more in {
        "equipoise": " -m equipoise",
        "python": "",
        "torchrun": " -m torch.distributed.run",
    }.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{more} "$@"\n')
        (programs / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(equipoise.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
    }


def glad(request: dict, _: int) -> dict:
    """A judge that likes glad answers, then mint."""
    text = request["messages"][-1]["content"]
    a, b = (between(text, f"Response {name}:") for name in "AB")
    worth = [2 * text.lstrip().startswith("Gladly") + ("mint" in text) for text in (a, b)]
    return winner("tie" if worth[0] == worth[1] else "AB"[worth[1] > worth[0]])


NEEDS = {"trackers": "trackio"}  # what a page installs, and the tests may lack


def runs(page: Path, folder: Path, environment: dict[str, str]) -> None:
    folder.mkdir()
    with serving(glad) as (address, _):
        for each in (PRACTICE, page):
            for ran in run_page(
                each, folder, instead={"http://localhost:8000/v1": address}, environment=environment
            ):
                assert ran.code == 0, f"{each.name}: {ran.text}{ran.said}"


@pytest.mark.nightly
def test_a_tutorial_runs_as_it_is_written(tmp_path: Path, environment: dict[str, str]) -> None:
    runs(LOOKED_FOR, tmp_path / "own", environment)
    folder = tmp_path / "own"
    assert (folder / "runs/dpo/report.html").is_file() and (folder / "policy/model.safetensors").is_file()
    assert len((folder / "answers.jsonl").read_text().splitlines()) == 3


@pytest.mark.nightly
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_guide_runs_as_it_is_written(page: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    runs(page, tmp_path / "own", environment)
