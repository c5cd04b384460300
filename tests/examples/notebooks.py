"""The notebooks of examples/, executed: `python tests/examples/notebooks.py [NAME ...]` stores their outputs again.

What is stored names no folder of the machine that ran them, and holds no text that a page shows as a table.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import nbformat
from nbclient import NotebookClient

import equipoise

FOLDER = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = ("offline_on_your_data", "online_with_a_judge")
SECONDS = 900


def executed(name: str, folder: Path) -> Any:
    """The notebook with its outputs, run in a folder. Raises CellExecutionError for a cell that fails."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return notebook


def cleaned(notebook: Any, folder: Path) -> Any:
    """The notebook without the machine's folders, warnings and run times."""
    package = re.escape(str(Path(equipoise.__file__).parent.parent))
    temporary = re.escape(gettempdir())
    names = (
        (re.escape(f"{folder.resolve()}/"), ""),
        (rf"{package}/|/[\w./-]*/site-packages/", "site-packages/"),
        (rf"{temporary}/[\w./-]*", "FILE"),
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            data = output.get("data", output)
            if "text/html" in data:
                data["text/plain"] = data["text/plain"].partition("(")[0]
            for kind in ("text", "text/plain", "text/html"):
                for path, shown in names:
                    if kind in data:
                        data[kind] = re.sub(path, shown, data[kind])
    return notebook


def store(names: Sequence[str]) -> None:
    """Execute notebooks, at full size, and store their outputs."""
    os.environ.pop("EQUIPOISE_FAST", None)
    for name in names:
        with TemporaryDirectory() as folder:
            made = cleaned(executed(name, Path(folder)), Path(folder))
            nbformat.write(made, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    store(sys.argv[1:] or NOTEBOOKS)
