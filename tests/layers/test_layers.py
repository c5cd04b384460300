"""Dependencies point one way, and the pure rooms stay pure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True, timeout=300
    )


def test_contracts_of_the_import_linter_hold():
    pytest.importorskip("importlinter", reason="import-linter is a development dependency")
    command = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    result = python(command)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "KEPT" in result.stdout  # contracts were found and judged


def test_core_and_games_import_without_the_text_world():
    heavy = ("transformers", "peft", "accelerate", "pyarrow", "pydantic")
    code = (
        "import sys, pkgutil, importlib, equipoise.core, equipoise.games\n"
        "for room in (equipoise.core, equipoise.games):\n"
        "    for module in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


TEXT = ("transformers", "accelerate", "peft", "pyarrow", "tokenizers")
LIGHT = (*TEXT, "torch", "scipy", "matplotlib", "jinja2")
COMMANDS = {
    "--help": LIGHT,
    "align --help": LIGHT,
    "methods": LIGHT,
    "methods inpo --json": LIGHT,
    "methods inpoo": LIGHT,  # an error is no reason to load a model's library
    "claims": LIGHT,
    "explain dpo": (*TEXT, "scipy", "matplotlib"),
    "play --game brps --method inpo --rounds 2": (*TEXT, "scipy", "matplotlib"),
    "claims spac_saddle": TEXT,
    "data check --help": LIGHT,
    "env": LIGHT,
    "runs .": LIGHT,
    "init --out -": LIGHT,
    "config schema": LIGHT,
    "--version": LIGHT,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_load_what_they_need_and_no_more(command):
    code = (
        "import sys\n"
        "from equipoise.cli import main\n"
        f"sys.argv = ['equipoise', *{command.split()!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        f"    print(end.code, *(name for name in {COMMANDS[command]!r} if name in sys.modules))"
    )
    result = python(code)
    assert result.stdout.splitlines()[-1:] == ["2" if "inpoo" in command else "0"], (
        result.stdout + result.stderr
    )


def test_the_configuration_alone_needs_no_torch():
    code = f"import sys, equipoise.run.config\nprint(*(name for name in {LIGHT!r} if name in sys.modules))"
    result = python(code)
    assert (result.returncode, result.stdout.split()) == (0, []), result.stdout + result.stderr


def test_the_package_is_a_program():
    result = subprocess.run(
        [sys.executable, "-m", "equipoise", "--help"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0 and "align" in result.stdout, result.stderr
