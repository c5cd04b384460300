"""Every module is imported on a system without Unix's own modules, such as Windows; byte locks there are msvcrt's."""

import errno
import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import equipoise
from equipoise.oracles.questions import byte_lock

UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog", "posix_ipc")
ROOT = Path(equipoise.__file__).parent
CHILD = "equipoise.oracles.code.sandbox_child"  # is run by the sandbox alone, where Unix locks it up
BLOCKED = """
import importlib, sys, warnings
import torch, transformers, peft, accelerate, matplotlib.pyplot, openai, uvicorn, starlette, filelock, asyncio
warnings.simplefilter("ignore")
for name in {unix!r}:
    sys.modules[name] = None
failed = []
for name in {names!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed.append(f"{{name}}: {{error}}")
print(chr(10).join(failed))
"""


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not name.endswith("__main__") and name != CHILD:
            yield name


@pytest.mark.slow
def test_every_module_is_imported_without_unix_modules():
    code = BLOCKED.format(unix=UNIX, names=list(modules()))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


class FakeMsvcrt(types.ModuleType):
    """msvcrt.locking over a table: ranges begin at the position of the file; a held one is refused at once."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self):
        super().__init__("msvcrt")
        self.held = {}

    def locking(self, file, mode, count):
        place = os.lseek(file, 0, os.SEEK_CUR)
        assert count == 1 and 0 <= place < 2**31
        if mode == self.LK_UNLCK:
            assert self.held.pop(place) == file
        elif self.held.setdefault(place, file) != file:
            raise PermissionError(errno.EACCES, "held")


def test_windows_locks_bytes_by_msvcrt(tmp_path, monkeypatch):
    fake = FakeMsvcrt()
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    about = importlib.util.spec_from_file_location("byte_lock_there", byte_lock.__file__)
    there = importlib.util.module_from_spec(about)
    about.loader.exec_module(there)
    files = [os.open(tmp_path / "bytes", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    far = 2**62 - 1
    assert there.try_lock(files[0], far) and there.try_lock(files[0], 5)
    assert not there.try_lock(files[1], far)
    there.unlock(files[0], far)
    assert there.try_lock(files[1], far)
    assert (tmp_path / "bytes").stat().st_size == 0
    for file in files:
        os.close(file)
