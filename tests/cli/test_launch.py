"""`equipoise launch`: what it refuses, and how it ends when a process does."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from torch.distributed.elastic.rendezvous import RendezvousConnectionError

from equipoise.cli.failures import explains_itself
from equipoise.cli.training.launch import launch


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
        (
            ("--nodes", "2", "--head", "localhost", "align", "dpo"),
            "--head is HOST:PORT with a port from 1 to 65535",
        ),
        (
            ("--nodes", "2", "--head", "localhost:99999", "align", "dpo"),
            "--head is HOST:PORT with a port from 1",
        ),
        (
            ("--nodes", "2", "--head", "no-such.invalid:29400", "align", "dpo"),
            "no address is known of 'no-such.invalid'",
        ),
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


def test_nodes_that_do_not_meet_are_told_in_one_sentence(monkeypatch):
    def never(config, *entry):
        def run(*arguments):
            raise RendezvousConnectionError("the connection has failed")

        return run

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", never)
    with pytest.raises(
        RuntimeError, match=r"the nodes do not meet at 127\.0\.0\.1:1: .* a node that all reach"
    ) as refused:
        context = SimpleNamespace(args=["align"])
        launch(context, processes=1, nodes=2, head="127.0.0.1:1")
    assert explains_itself(refused.value)
