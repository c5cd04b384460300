"""Bars of libraries are not printed by commands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
from equipoise.cli.app import main
try:
    main(["--version"])
except SystemExit:
    pass
from transformers.utils import logging
print(logging.is_progress_bar_enabled())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("given", "shown"), [({}, "False"), ({"HF_HUB_DISABLE_PROGRESS_BARS": "0"}, "True")])
def test_a_command_turns_off_the_bars_of_transformers_unless_they_are_asked_for(given, shown):
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=env | given, check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[-1] == shown
