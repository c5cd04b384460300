"""`equipoise launch`: what it refuses, and how it ends when a process does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def launched(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "equipoise", "launch", *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=env, check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-n", "2"), "comes a command that several processes share: align"),
        (("-n", "2", "plan", "dpo"), "comes a command that several processes share: align"),
        (("-n", "2", "--nodes", "2", "align", "dpo"), "several nodes meet at --head HOST:PORT"),
        (("-n", "0", "align", "dpo"), "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_launched_is_refused_before_anything_is_loaded(arguments, said):
    done = launched(*arguments)
    assert done.returncode == 2 and said in done.stderr and "loading" not in done.stderr


@pytest.mark.slow
def test_a_refused_command_ends_with_one_line_and_its_own_code(tmp_path):
    done = launched("-n", "2", "align", "dpoo", "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stderr.count("no method 'dpoo'") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
