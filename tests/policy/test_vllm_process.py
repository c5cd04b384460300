"""`vllm serve` begun here: when it begins again, and that it ends with us, however we end. The program is a fake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from equipoise.data.collate import Prompt
from equipoise.policy.generation.sampling import sample
from equipoise.policy.generation.vllm import keeper, remote, servers
from equipoise.policy.generation.vllm.serve_process import EXECUTABLE
from equipoise.policy.protocol import Decoding, ModelError

PROMPTS = [Prompt((1, *range(3, 3 + n)), "", "") for n in (4, 0)]
DECODING = Decoding(max_new_tokens=6, engine="vllm_server")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="vLLM runs on Unix")


@pytest.fixture
def starts(tmp_path, monkeypatch):
    """starts() -> what the fake program was begun with so far."""
    program, log = tmp_path / "vllm", tmp_path / "starts.jsonl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {Path(__file__).parent / "fake_vllm.py"} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv(EXECUTABLE, str(program))
    monkeypatch.setenv("FAKE_VLLM", str(log))
    monkeypatch.setattr(remote, "WAIT", 0.1)
    yield lambda: [json.loads(line) for line in log.read_text().splitlines()]
    remote.close()


def ended(pid: int) -> bool:
    """Whether a process is gone, within ten seconds."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def moved(policy):
    with torch.no_grad():
        for _, parameter in policy.parameters():
            parameter.add_(0.1)


def test_an_adapter_is_handed_to_one_process_and_other_weights_to_another(lora, tiny, starts):
    first = sample(lora, PROMPTS, 2, seed=5, decoding=DECODING)
    moved(lora)
    assert sample(lora, PROMPTS, 2, seed=5, decoding=DECODING) == first  # the fake knows seeds, not weights
    (one,) = starts()
    assert one["model"] == str(lora.start.chain.base.path.resolve())
    options = dict(zip(one["options"], one["options"][1:], strict=False))
    assert options["--max-lora-rank"] == "8" and options["--dtype"] == "float32"
    assert options["--generation-config"] == "vllm" and options["--max-model-len"] == "64"
    folder = Path(options["--uds"]).parent
    assert folder.stat().st_mode & 0o077 == 0  # nobody else reaches the endpoints that change weights
    policy = tiny("llama-tied")
    for _ in range(2):
        sample(policy, PROMPTS, 1, seed=5, decoding=DECODING)
    moved(policy)
    sample(policy, PROMPTS, 1, seed=5, decoding=DECODING)
    assert len(starts()) == 3 and "--enable-lora" not in starts()[1]["options"]
    remote.close()
    assert all(ended(start["pid"]) for start in starts()) and not folder.exists()


def test_on_a_gpu_it_sleeps_while_the_policy_trains(lora, starts, monkeypatch):
    monkeypatch.setattr(
        servers, "_on_gpu", lambda policy: True
    )  # there is none here: the calls are what is seen
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    for _ in range(2):
        sample(lora, PROMPTS, 1, seed=5, decoding=replace(DECODING, memory=0.3))
        moved(lora)
    begun, *posted = starts()
    assert begun["gpu"] == "6" and "--enable-sleep-mode" in begun["options"]
    assert begun["options"][begun["options"].index("--gpu-memory-utilization") + 1] == "0.3"
    assert [line["posted"] for line in posted] == ["/sleep?level=1", "/wake_up", "/sleep?level=1"]


def test_a_process_that_ended_is_begun_again(lora, starts):
    before = sample(lora, PROMPTS, 1, seed=5, decoding=DECODING)
    os.kill(starts()[0]["pid"], signal.SIGKILL)
    assert sample(lora, PROMPTS, 1, seed=5, decoding=DECODING) == before
    assert len(starts()) == 2


def test_what_it_said_before_it_ended_is_told(lora, starts):
    (lora.start.chain.base.path / "config.json").unlink()
    with pytest.raises(
        ModelError, match=r"ended before it answered: ValueError: no such model .*its log: "
    ) as error:
        sample(lora, PROMPTS, 1, seed=5, decoding=DECODING)
    log = Path(re.search(r"its log: (.*)\)", str(error.value))[1])
    assert log.read_text() == "ValueError: no such model\nand a hint\n"
    with pytest.raises(ModelError):  # and nothing is left to begin again for ever
        sample(lora, PROMPTS, 1, seed=5, decoding=DECODING)
    assert len(starts()) == 2


def test_a_program_that_is_not_there_is_named(lora, monkeypatch):
    monkeypatch.setenv(EXECUTABLE, "/nowhere/vllm")
    with pytest.raises(
        ModelError, match=r"no '/nowhere/vllm': install vLLM .*\$EQUIPOISE_VLLM; or .*servers="
    ):
        sample(lora, PROMPTS, 1, seed=5, decoding=DECODING)


def test_a_killed_process_leaves_no_server_behind():
    command = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    begun = (
        "import subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, '-I', {keeper.__file__!r}, sys.executable, '-c', {command!r}], "
        "stdin=subprocess.PIPE, start_new_session=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", begun], stdout=subprocess.PIPE, text=True) as ours:
        server = int(ours.stdout.readline())
        assert not ours.poll()
        ours.kill()
        assert ended(server)
