"""`equipoise launch`: one command as several processes, each with a copy of the model."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.failures import LEFT_SUPPORT
from equipoise.cli.loading import told
from equipoise.safe_text import printable

COMMANDS = ("align",)  # commands whose processes share their work
# exit codes of a command that has said why, on its way out when it is stopped; in the middle it ends with 143
SPOKEN = (1, 2, LEFT_SUPPORT, -signal.SIGTERM)
MOST_LINES = 20  # shown of a process that failed
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def launch(
    context: typer.Context,
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-n", min=1, help="processes of this node [its number of GPUs]"),
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="number of nodes")] = 1,
    head: Annotated[
        str | None,
        typer.Option(
            "--head", help="HOST:PORT of one of the nodes, the same on all; needed for several nodes"
        ),
    ] = None,
) -> None:
    """Run a command as several processes, which share sampling, judging, scoring and every optimizer step.

        equipoise launch --processes 2 align dpo --model MODEL --data pairs.jsonl --out runs/dpo

    It is torchrun with these defaults: one process for each GPU, or of a CPU with its cores divided among them; nothing
    is restarted, since the same command resumes. The run ends as the first process that failed did.
    """
    arguments = list(context.args)
    if not arguments or arguments[0] not in COMMANDS:
        raise typer.BadParameter(
            f"after its own options comes a command that several processes share: {', '.join(COMMANDS)}"
        )
    if nodes > 1 and not head:
        raise typer.BadParameter("several nodes meet at --head HOST:PORT, the same on all of them")
    if head:
        _check_head(head)
    with told():
        import torch
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.elastic.rendezvous import RendezvousError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus = torch.cuda.device_count()
    count = processes or gpus or 1
    if gpus and count > gpus:
        raise typer.BadParameter(f"{count} processes, and {gpus} GPUs: each process needs one of its own")
    if not gpus:
        os.environ["ACCELERATE_USE_CPU"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes speak for themselves
    logs = tempfile.TemporaryDirectory(
        prefix="equipoise-launch-"
    )  # of all processes of the node but the first
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=count,
        run_id="equipoise",
        rdzv_backend="c10d",
        rdzv_endpoint=head or "localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(logs.name, dict.fromkeys(range(1, count), Std.ALL)),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "equipoise", *arguments)
    except ChildFailedError as failed:
        first = failed.get_first_failure()[1]
        if not any(one.local_rank == 0 and one.exitcode in SPOKEN for one in failed.failures.values()):
            _say_why(Path(logs.name), first.local_rank)
        raise typer.Exit(first.exitcode if first.exitcode > 0 else 128 - first.exitcode) from None
    except RendezvousError as error:
        raise RuntimeError(
            f"the nodes do not meet at {config.rdzv_endpoint}: {error}; every one of the {nodes} nodes must run this "
            "command with the same --head, at a free port of a node that all reach"
        ) from None
    except SignalException as stopped:
        raise typer.Exit(128 + int(stopped.sigval)) from None
    finally:
        logs.cleanup()


def _check_head(head: str) -> None:
    """Refuse an address at which nodes cannot meet: torchrun would try it for a minute and then fail as a program."""
    found = re.fullmatch(r"(?P<host>[\w.:-]+|\[[\w.:]+\]):(?P<port>\d{1,5})", head, re.ASCII)
    if not found or not 0 < int(found["port"]) < 2**16:
        raise typer.BadParameter(f"--head is HOST:PORT with a port from 1 to 65535, got {printable(head)!r}")
    try:
        socket.getaddrinfo(found["host"].strip("[]"), None)
    except OSError as error:
        raise typer.BadParameter(
            f"--head: no address is known of {found['host']!r}: {error.strerror}"
        ) from None


def _say_why(logs: Path, process: int) -> None:
    """Print the last lines of a process that failed, of which only the first speaks for itself."""
    for path in sorted(logs.glob(f"**/{process}/stderr.log")) if process else ():
        last = path.read_text(encoding="utf-8", errors="replace").splitlines()[-MOST_LINES:]
        print(f"process {process} of this node failed:", *map(printable, last), sep="\n  ", file=sys.stderr)
