"""Benchmarks are programs of their own: what they import from the package must be there; the one for GPUs runs dry."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_what_a_benchmark_imports_is_there(program: Path):
    missing = [
        f"{node.module}.{name.name}"
        for node in ast.walk(ast.parse(program.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("equipoise")
        for name in node.names
        if not is_there(str(node.module), name.name)
    ]
    assert not missing


def is_there(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


def test_a_name_that_is_gone_is_found():
    assert is_there("equipoise.core.intervals", "wilson") and is_there("equipoise.core", "intervals")
    assert not is_there("equipoise.core.intervals", "gone")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAMS[0].parent))
    return importlib.import_module("gpu")


@pytest.mark.slow
def test_the_gpu_program_runs_dry(tmp_path: Path, gpu):
    """Every section, so that a first run on a GPU is not the program's first."""
    program = PROGRAMS[0].parent / "gpu.py"
    done = subprocess.run(
        [sys.executable, program, "--dry", "--out", tmp_path], check=True, capture_output=True, text=True
    )
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["dry"] and list(found["sections"]) == list(gpu.SECTIONS)
    assert [section["status"] for section in found["sections"].values()] == ["done"] * len(gpu.SECTIONS)
    agreed = found["sections"]["agreement"]
    off = {
        name: agreed[f"{name} bf16 from padded fp32: log-probs, gradient"] for name in ("packed", "padded")
    }
    assert all(ours < 2 * theirs for ours, theirs in zip(off["packed"], off["padded"], strict=True))
    assert agreed["a resumed fit"] == {"loss": 0.0, "largest weight": 0.0}
    assert all(found["sections"]["attention"][f"{name}, ms"]["auto"] > 0 for name in gpu.SHAPES)
    for name, section in found["sections"].items():
        if name.startswith("train"):
            assert section["tokens/s"]["equipoise"] > 0
    assert set(found["sections"]["generation"]["tokens/s"]) >= {"ours", "generate"}
    assert abs(found["sections"]["memory"]["bytes"]["full"]["off"]) < 0.5
    assert "dry run" in done.stdout and "| agreement |" in (tmp_path / "gpu.md").read_text()


def test_all_sections_together_take_less_than_eight_minutes(gpu):
    assert gpu.LIMIT < 8 * 60
    assert sum(seconds for _, seconds in gpu.SECTIONS.values()) < 8.2 * 60


def test_a_section_that_fails_hangs_or_dies_is_recorded(gpu, monkeypatch):
    def fails(plan, note, parent):
        note("before", 1)
        raise RuntimeError("out of memory\nand more")

    def hangs(plan, note, parent):
        note("before", 2)
        time.sleep(600)

    def dies(plan, note, parent):
        gpu.os._exit(3)

    monkeypatch.setattr(gpu, "SECTIONS", {f.__name__: (f, 1) for f in (fails, hangs, dies)})
    failed, stopped, died = (gpu.run(name, True, 3) for name in gpu.SECTIONS)
    assert (failed["status"], failed["before"]) == ("failed: RuntimeError: out of memory", 1)
    assert stopped["status"].startswith("stopped: 3 s were over") and stopped["before"] == 2
    assert died["status"].endswith("the process died (3)")
    text = gpu.report(
        {"sections": {"fails": failed}, "versions": {}, "wall": 1.0, "command": "gpu.py", "dry": True}
    )
    assert "| fails | status | failed: RuntimeError: out of memory |" in text
