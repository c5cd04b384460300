"""A `vllm serve` process of one's own: begun on a model folder, asked through a private socket, ended with this one.

It listens on a Unix domain socket in a folder that only this user may enter, so that nothing else can reach the
endpoints that change its weights, and no port is taken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from equipoise.json_http import JsonServer, Refused, Unanswered, completed
from equipoise.policy.generation.vllm import keeper
from equipoise.policy.protocol import ModelError
from equipoise.safe_text import printable

EXECUTABLE = "EQUIPOISE_VLLM"  # environment variable: which `vllm` is run
START = 1800.0  # seconds that a server may take to load a model
SAID = 600  # characters of its last words that a message quotes
# what torchrun says to our processes is not meant for the engine's
_LAUNCHER = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
             "MASTER_PORT")  # fmt: skip


def executable() -> str:
    """The `vllm` that $EQUIPOISE_VLLM names, or the one on the path. Raises ModelError if there is none."""
    named = os.environ.get(EXECUTABLE) or "vllm"
    found = shutil.which(named)
    if found is None:
        raise ModelError(
            f"sampling.engine=vllm_server starts `vllm serve`, and there is no {named!r}: install vLLM (an environment "
            f"of its own will do), and name its program in ${EXECUTABLE}; or give the addresses of servers that run, "
            "sampling.servers=[http://HOST:PORT]"
        )
    return found


class ServeProcess:
    """A running `vllm serve`. Raises ModelError, with the end of its log, if it ends before it answers."""

    def __init__(self, model: str, options: Sequence[str], variables: Mapping[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="equipoise-"))  # for this user alone
        self.log = self.folder / "serve.log"
        socket = str(self.folder / "socket")
        # a header needs a host, whatever its name
        self.server = JsonServer(url="http://vllm", socket=socket, timeout=10.0)
        command = [executable(), "serve", model, "--uds", socket, *options]
        kept = {
            k: v for k, v in os.environ.items() if k not in _LAUNCHER and not k.startswith("TORCHELASTIC")
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(Path(keeper.__file__)), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=kept | dict(variables),
                start_new_session=True,  # Ctrl-C is for us: we end it in order
            )
        try:
            self._wait()
        except BaseException:
            self.stop(keep_log=True)
            raise

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ended(self, within: float) -> bool:
        """Whether it ends by itself within so many seconds; a connection is lost before its process is gone."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _wait(self) -> None:
        deadline = time.monotonic() + START
        while not self._healthy():
            if not self.alive:
                raise ModelError(f"`vllm serve` ended before it answered: {self.last_words()}")
            if time.monotonic() > deadline:
                raise ModelError(f"`vllm serve` did not answer within {START:g} s: {self.last_words()}")
            time.sleep(0.2)

    def _healthy(self) -> bool:
        if not Path(str(self.server.socket)).exists():
            return False
        try:
            completed(self._health())
        except (Unanswered, Refused):
            return False
        return True

    async def _health(self) -> None:
        async with self.server.open() as send:
            await send("/health")

    def last_words(self) -> str:
        """The lines of its log that say what went wrong, or its last ones, and where the rest is."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        wrong = [line for line in lines if "Error" in line or "error:" in line]
        said = " / ".join(line.strip() for line in (wrong or lines)[-3:])
        return f"{printable(said, most=SAID) or 'it has said nothing'} (its log: {self.log})"

    def stop(self, *, keep_log: bool = False) -> None:
        """End it and its children, and remove its folder."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        if not keep_log:
            shutil.rmtree(self.folder, ignore_errors=True)
