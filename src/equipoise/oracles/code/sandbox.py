"""Sandbox for code from outside: namespaces where the system has them, resource limits everywhere, and an honest list
of what is not enforced.

Each run is a process of its own (`sandbox_child.py`) that locks itself up before it runs a line of foreign code. In
namespaces it has no network, sees no process but its own, and no file but the system's and Python's, read-only, and a
temporary folder in memory; all that it started ends with it. Nothing of the environment is passed on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Isolation = Literal["namespaces", "limits"]

CHILD = Path(__file__).with_name("sandbox_child.py")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
}
LONGEST_ANSWER = 4 * 2**20  # bytes of one value that crosses between two sandboxes
LONGEST_STATUS = 2**16
GRACE = 10.0  # seconds beyond its own limit after which a run is given up

LIMITED = (
    "processor seconds, address space and open files of each process",
    "number of processes",
    "size of files",
    "wall-clock time",
    "output",
    "an empty environment",
)
ISOLATED = (
    "no network",
    "no file but the system's and Python's, read-only, and a temporary folder in memory",
    "no other process seen or signalled",
    "whatever was started ends with the run",
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one run.

    seconds    of processor time of a process     wall  seconds by the clock, of the whole run
    memory     bytes of address space of a process    processes    at once, with threads
    file       bytes of the temporary folder, and of a file         output       bytes of standard output
    """

    seconds: int = 5
    wall: float = 15.0
    memory: int = 512 * 2**20
    processes: int = 16
    file: int = 16 * 2**20
    output: int = 2**20

    def as_rlimits(self) -> dict[str, int]:
        return {
            "CPU": self.seconds,
            "AS": self.memory,
            "NPROC": self.processes,
            "FSIZE": self.file,
            "NOFILE": 64,
        }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    ended   "exit", "time" or "output": by itself, at its time limit, or when it wrote too much
    code    its exit status, negative for a signal; None if it was ended
    """

    ended: str
    code: int | None
    output: bytes = b""


class SandboxError(OSError):
    """The sandbox could not be made: nothing is known about the code."""


@dataclass(frozen=True, kw_only=True)
class Guarantees:
    """What this machine enforces, and what not; `why` namespaces cannot be had."""

    isolation: Isolation
    enforced: tuple[str, ...]
    not_enforced: tuple[str, ...]
    why: str = ""

    def sentence(self) -> str:
        return f"enforced: {', '.join(self.enforced)}; not enforced: {', '.join(self.not_enforced)}"


# tries what must fail, and says what did not
PROBE = """
import os, socket, sys
found = []
def tries(name, action):
    try:
        action()
    except OSError:
        return
    found.append(name)
def connect():
    with socket.socket() as s:
        s.settimeout(1)
        s.connect(("127.0.0.1", int(sys.stdin.readline())))
tries("network", connect)
tries("write", lambda: open("/usr/sandbox-probe", "w"))
tries("write", lambda: os.mkdir("/sandbox-probe"))
tries("read", lambda: open(sys.stdin.readline().strip()))
tries("kill", lambda: os.kill(int(sys.stdin.readline()), 0))
tries("root", lambda: os.setuid(0))
open("own", "w").write("x")
print("probed", *found)
"""


@functools.cache
def guarantees() -> Guarantees:
    """What a sandbox of this machine enforces, tried once in each process."""
    try:
        open_ways = _probe()
    except SandboxError as error:
        open_ways, why = None, str(error)
    else:
        why = f"it does not stop {', '.join(open_ways)}" if open_ways else ""
    if not why:
        memory = "memory of all processes of a run together (each has its own limit)"
        return Guarantees(isolation="namespaces", enforced=(*LIMITED, *ISOLATED), not_enforced=(memory,))
    kept = [name for name in LIMITED if os.getuid() != 0 or name != "number of processes"]
    missing = [*ISOLATED, *(name for name in LIMITED if name not in kept)]
    return Guarantees(isolation="limits", enforced=tuple(kept), not_enforced=tuple(missing), why=why)


def _python_folders() -> list[str]:
    """Folders that Python runs from, and where they are if they are links, as a shared virtual environment may be."""
    folders = {sys.base_prefix, sys.prefix, sys.base_exec_prefix}
    return sorted(folders | {os.path.realpath(folder) for folder in folders})


def _probe() -> list[str]:
    """What the namespaces of this machine leave open: nothing, if they are as they should be."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.NamedTemporaryFile() as secret:
        given = f"{server.getsockname()[1]}\n{secret.name}\n{os.getpid()}\n"
        outcome = Sandbox(Limits(), "namespaces").program({"probe.py": PROBE}, stdin=given)
    words = outcome.output.decode(errors="replace").split()
    if outcome.code != 0 or words[:1] != ["probed"]:
        raise SandboxError(f"the probe ended with {outcome.code}")
    return words[1:]


@dataclass(frozen=True)
class Sandbox:
    """Runs code from outside; see the module for what holds.

    isolation   "namespaces", or "limits": resource limits alone, where the user accepts this
    """

    limits: Limits = field(default_factory=Limits)
    isolation: Isolation = "namespaces"

    def program(self, files: Mapping[str, str], *, command: Sequence[str] = (), stdin: str = "") -> Outcome:
        """Run a command in a folder with these files; by default Python on the first of them."""
        task = {"role": "program", "files": dict(files), "command": list(command), "stdin": stdin}
        with self._started(task, ()) as run:
            output, whole = run.read(run.stdout, self.limits.output)
            if not whole:
                run.stop()
            status = run.ended()
        if not whole:
            return Outcome(ended="output", code=None, output=output)
        return Outcome(ended=status["ended"], code=status["code"], output=output)

    def tests(
        self, code: str, tests: Sequence[str], names: Sequence[str], entry: str | None = None
    ) -> tuple[list[int], str]:
        """Run test statements against the functions that Python code defines. Returns (1 for each test that passed,
        else 0; why the first one failed).

        The code and the tests run in two sandboxes. Of the code, the tests know `names`, as functions that are called
        over there; results come back as plain values, and the comparison is made where no line of the code runs. A
        value that is not plain equals nothing. `entry` is also known as `candidate`.
        """
        passed, why, _ = self.tried(code, tests, names, entry)
        return passed, why

    def tried(
        self, code: str, tests: Sequence[str], names: Sequence[str], entry: str | None = None
    ) -> tuple[list[int], str, bool]:
        """As `tests`, and whether every test was tried: not once the code's process has ended, or time is up."""
        about = {"tests": list(tests), "names": list(names), "entry": entry, "count": len(tests)}
        served = {"role": "serve", "code": code}
        tested = {"role": "test", "longest": LONGEST_ANSWER, **about}
        with _pipes() as pipes:
            (asked, ask), (answered, answer), (verdict, say) = pipes.new(), pipes.new(), pipes.new()
            with (
                self._started(served, (asked, answer)),
                self._started(tested, (answered, ask, say), GRACE / 2) as tester,
            ):
                pipes.close(asked, ask, answered, answer, say)
                said, _ = tester.read(verdict, LONGEST_STATUS)
                tester.ended()
        try:
            line = json.loads(said)
            return [int(bool(n)) for n in line["passed"]], str(line["why"]), bool(line["whole"])
        except (ValueError, KeyError, TypeError):
            return [0] * len(tests), "the tests did not end", False

    @contextmanager
    def _started(self, task: Mapping[str, Any], fds: Sequence[int], longer: float = 0.0) -> Iterator[_Run]:
        limits, folder = self.limits, tempfile.TemporaryDirectory(prefix="equipoise-sandbox-")
        status, control = os.pipe(), os.pipe()
        whole = {
            **task,
            "isolation": self.isolation,
            "root": folder.name,
            "folder": folder.name,
            "shown": _python_folders(),
            "limits": limits.as_rlimits(),
            "seconds": limits.wall + longer,
            "environment": ENVIRONMENT | ({} if self.isolation == "namespaces" else {"HOME": folder.name}),
            "status": status[1],
            "control": control[0],
            "fds": list(fds),
        }
        with folder:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", str(CHILD)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(status[1], control[0], *fds),
                    start_new_session=True,
                    env=ENVIRONMENT,
                    cwd="/",
                )
            except OSError as error:
                for fd in (*status, *control):
                    os.close(fd)
                raise SandboxError(f"no process can be started: {error}") from error
            os.close(status[1])
            os.close(control[0])
            run = _Run(process, status[0], control[1], limits.wall + longer + GRACE)
            try:
                with contextlib.suppress(BrokenPipeError):
                    assert process.stdin is not None
                    process.stdin.write(json.dumps(whole).encode())
                    process.stdin.close()
                yield run
            finally:
                run.close()


class _Pipes:
    """Pipes, each end of which is closed once; a number that was closed may be another thread's."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    def new(self) -> tuple[int, int]:
        ends = os.pipe()
        self.ends += ends
        return ends

    def close(self, *ends: int) -> None:
        for end in ends:
            self.ends.remove(end)
            os.close(end)


@contextmanager
def _pipes() -> Iterator[_Pipes]:
    pipes = _Pipes()
    try:
        yield pipes
    finally:
        pipes.close(*pipes.ends)


class _Run:
    """A sandbox that is running: what it writes, and how it ended."""

    def __init__(self, process: subprocess.Popen[bytes], status: int, control: int, seconds: float) -> None:
        self.process, self.status, self.control = process, status, control
        self.until = time.monotonic() + seconds

    @property
    def stdout(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self, fd: int, most: int) -> tuple[bytes, bool]:
        """(what comes, whether that is all): at most so many bytes, until the other end is closed."""
        parts: list[bytes] = []
        size = 0
        while size <= most:
            if not select.select([fd], [], [], max(0.0, self.until - time.monotonic()))[0]:
                return b"".join(parts), True
            part = os.read(fd, 65536)
            if not part:
                return b"".join(parts), True
            parts.append(part)
            size += len(part)
        return b"".join(parts)[:most], False

    def ended(self) -> dict[str, Any]:
        """How the run ended, once it has. Raises SandboxError if it was never begun."""
        said, _ = self.read(self.status, LONGEST_STATUS)
        try:
            line: dict[str, Any] = json.loads(said.splitlines()[0])
        except (ValueError, IndexError):
            raise SandboxError("the sandbox ended without a word") from None
        if "setup" in line:
            raise SandboxError(f"the sandbox cannot be made: {line['setup']}")
        return line

    def stop(self) -> None:
        """Let the sandbox end: it does when this pipe is closed, also because this process has gone."""
        if self.control >= 0:
            os.close(self.control)
            self.control = -1

    def close(self) -> None:
        self.stop()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.status)
        if self.process.stdout is not None:
            self.process.stdout.close()
