"""Shared by every test: shape types enforced in `core`, fixed seeds, few threads, real data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import config, install_import_hook

# before the first import of the package: every annotated shape in `core` is checked while testing
install_import_hook("equipoise.core", "beartype.beartype")

import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]

pytest_plugins = ("text_world_fixtures",)  # imported after the hook above

torch.set_num_threads(1)  # two processes share two cores; more threads wait for each other


@pytest.fixture(autouse=True)
def _as_a_process_starts() -> Iterator[None]:
    """Seeds fixed; what a run sets in its process (flushed denormals, deterministic algorithms) is undone after it."""
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def no_shape_types() -> Iterator[None]:
    """As in production: shape types off, so that a test meets the package's own refusals."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, $EQUIPOISE_DATA or ../shared/data; without one the test is skipped."""
    folder = Path(os.environ.get("EQUIPOISE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set EQUIPOISE_DATA to the folder that holds it")
    return folder
