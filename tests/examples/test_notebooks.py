"""The notebooks run from the first cell to the last, and show what they promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STORED = sorted((ROOT / "examples").glob("*.ipynb"))


def outputs(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_outputs_are_stored_without_errors_or_folders_of_a_machine(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs(notebook) if output["output_type"] == "error"]
    assert sum("text/html" in output.get("data", {}) for output in outputs(notebook)) >= 3
    text = path.read_text(encoding="utf-8")
    for folder in ("/tmp/", "/home/", "/root/", str(ROOT)):
        assert folder not in text, folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [path.stem for path in STORED])
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from tests.examples.notebooks import NOTEBOOKS, executed

    assert name in NOTEBOOKS
    monkeypatch.setenv("EQUIPOISE_FAST", "1")
    made = executed(name, tmp_path)
    assert not [output for output in outputs(made) if output["output_type"] == "error"]
    assert any("<table>" in output.get("data", {}).get("text/html", "") for output in outputs(made))
    assert list(tmp_path.glob("runs/*/summary.json"))
