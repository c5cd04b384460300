"""How a command ends: terminated, on a narrow terminal, in one process of several."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs

pytestmark = pytest.mark.slow
SETTINGS = ("batch=4", "max_new_tokens=4", "evaluate.samples=1", "evaluate.prompts=2", "save_every=1")


def command(
    folder: Path, *more: str, before: tuple[str, ...] = (sys.executable, "-m", "equipoise")
) -> list[str]:
    given = ("align", "dpo", "--model", str(model_path()), "--data", str(folder / "pairs.jsonl"))
    return [*before, *given, "--out", str(folder / "run"), "--set", *SETTINGS, *more]


@pytest.fixture
def folder(tmp_path):
    write_pairs(tmp_path / "pairs.jsonl", LanguageGame(), 60, seed=1, reference=reference_policy())
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | more


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)


def test_terminated_in_training_says_that_it_resumes_and_does(folder):
    slow = command(folder, "epochs=40")
    process = subprocess.Popen(
        slow, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(folder / "run" / "progress.safetensors", process)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 143, told
    assert told.rstrip().endswith("stopped; the same command resumes") and "Traceback" not in told
    steps = len((folder / "run/metrics.jsonl").read_text().splitlines())
    process = subprocess.Popen(
        slow, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 300
    while len((folder / "run/metrics.jsonl").read_text().splitlines()) <= steps + 1:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate()
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))


@pytest.mark.nightly
def test_a_terminal_of_ascii_ends_with_0(folder):
    done = subprocess.run(
        command(folder),
        env=environment(PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0"),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout


@pytest.mark.nightly
def test_two_processes_print_one_table_and_resume_after_a_kill(folder):
    launcher = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29611",
    )
    two = command(folder, "epochs=4", before=(*launcher, "-m", "equipoise"))
    env = environment(ACCELERATE_USE_CPU="1")
    whole = subprocess.run(two, env=env, check=False, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr[-2000:]
    assert whole.stdout.count("report   ") == 1
    kept = {
        name: (folder / "run" / name).read_bytes()
        for name in ("metrics.jsonl", "evaluation.jsonl", "checkpoints/round-001/model.safetensors")
    }
    (folder / "run").rename(folder / "whole")
    process = subprocess.Popen(
        two, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(folder / "run" / "progress.safetensors", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = subprocess.run(two, env=env, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-2000:]
    for name, content in kept.items():
        assert (folder / "run" / name).read_bytes() == content, name
