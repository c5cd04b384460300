"""The inside of the sandbox: a program of its own, standard library only, that locks itself up and runs code.

It reads one JSON object from standard input, makes the namespaces and limits that this names, and runs the code in a
child. `sandbox.py` starts it and reads what it says on the status file descriptor. It imports nothing of this package,
and no code from outside runs before everything is locked.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import runpy
import select
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

Role = Callable[[Mapping[str, Any], Sequence[int]], None]

CALLS = Path(__file__).with_name("sandbox_calls.py")
CLONE = (
    0x00020000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x20000000
)  # mounts, network, ipc, host name, processes
CLONE_USER = 0x10000000
MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV, MNT_DETACH = 4096, 16384, 1 << 18, 2, 4, 2
READ_ONLY = 1 | 2 | 4  # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV
MOUNT_SETATTR, PIVOT_ROOT_OF = 442, {"x86_64": 155, "aarch64": 41, "riscv64": 41}
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 4, 38, 36
CAPABILITIES_3 = 0x20080522
OWN_USER = 100_000_000  # and the process number: a user that no other process has
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(
    source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None
) -> None:
    given = [None if value is None else os.fsencode(value) for value in (source, target, kind)]
    checked(
        libc.mount(given[0], given[1], given[2], ctypes.c_ulong(flags), data and os.fsencode(data)),
        f"mount {target}",
    )


def read_only(target: str, flags: int = READ_ONLY, recursive: bool = True) -> None:
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    how = AT_RECURSIVE if recursive else 0
    done = libc.syscall(
        MOUNT_SETATTR, AT_FDCWD, os.fsencode(target), how, ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    checked(done, f"read-only {target}")


def isolate() -> None:
    """New namespaces: no network, no other process, no file but the system's and Python's, which are read-only, and a
    temporary folder in memory."""
    uid, gid = os.getuid(), os.getgid()
    checked(libc.unshare(CLONE | (0 if uid == 0 else CLONE_USER)), "namespaces")
    if uid != 0:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(text)


def new_root(root: str, shown: Sequence[str], size: int) -> None:
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    Path(root, "tmp").mkdir()  # before the paths shown: Python itself may lie in it
    mount("tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={size},mode=1777")
    for path in dict.fromkeys((*SYSTEM, *shown)):
        show(root, path)
    Path(root, "dev").mkdir()
    for path in DEVICES:
        Path(root + path).touch()
        mount(path, root + path, None, MS_BIND)
    read_only(root, recursive=False)
    os.chdir(root)
    checked(libc.syscall(PIVOT_ROOT_OF[os.uname().machine], b".", b"."), "pivot_root")
    checked(libc.umount2(b".", MNT_DETACH), "leave the old root")
    os.chdir("/tmp")


def show(root: str, path: str) -> None:
    """The same path inside, read-only."""
    outside, inside = Path(path), Path(root + path)
    if os.path.lexists(inside) or not outside.exists():
        return
    inside.parent.mkdir(parents=True, exist_ok=True)
    if outside.is_symlink():
        inside.symlink_to(outside.resolve())  # at once: links on the way are not shown
        return
    if outside.is_dir():
        inside.mkdir()
    else:
        inside.touch()
    mount(path, str(inside), None, MS_BIND | MS_REC)
    read_only(str(inside))


def drop_privileges(own_user: int) -> None:
    """A user of its own where this is root, no capability, and none to be had."""
    if os.getuid() == 0 and own_user:
        for user in (OWN_USER + own_user, 65534):
            try:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                break
            except OSError:
                continue
        else:
            raise OSError("no other user can be had")
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "give up capabilities")
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    checked(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "not to be read by others")


def limit(limits: Mapping[str, int]) -> None:
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(number)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def supervise(child: int, control: int, seconds: float) -> dict[str, Any]:
    """How the child ended: it is killed when time is up, or when the process that started this has gone."""
    pidfd = os.pidfd_open(child)
    ready, _, _ = select.select([pidfd, control], [], [], seconds)
    ended = pidfd in ready
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    kill_orphans()
    if not ended:
        return {"ended": "time" if not ready else "stopped", "code": None}
    return {"ended": "exit", "code": os.waitstatus_to_exitcode(status)}


def kill_orphans() -> None:
    """End what the child left behind. In namespaces the kernel has done so; elsewhere it is adopted here."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123
                left = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


# what runs inside ---------------------------------------------------------------------------------


def stdin_of(text: str) -> None:
    """Standard input that holds a text."""
    with os.fdopen(os.memfd_create("stdin"), "w+b") as file:
        file.write(text.encode(errors="surrogatepass"))
        file.seek(0)
        os.dup2(file.fileno(), 0)


def program(task: Mapping[str, Any], fds: Sequence[int]) -> None:
    """The code as a program, or a command in the folder of the code's file; its standard output is the caller's."""
    for name, text in task["files"].items():
        with open(name, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
    stdin_of(task["stdin"])
    for fd in fds:
        os.close(fd)
    command = task["command"] or [sys.executable, "-I", *task["files"]]
    os.execvpe(command[0], command, task["environment"])


def locked(task: Mapping[str, Any], run: Role, fds: Sequence[int]) -> NoReturn:
    """In the child: lock up, then run the role. Never returns."""
    try:
        if task["isolation"] == "namespaces":
            new_root(task["root"], task["shown"], task["limits"]["FSIZE"])
        else:
            os.chdir(task["folder"])
        limit(task["limits"])
        drop_privileges(task["number"] if task["isolation"] == "namespaces" else 0)
        os.environ.clear()
        os.environ.update(task["environment"])
    except BaseException:  # noqa: BLE001  whatever it is, it is said
        os.write(task["status"], json.dumps({"setup": traceback.format_exc(limit=1)[-300:]}).encode() + b"\n")
        os._exit(1)
    os.close(task["status"])
    code = 1  # also of a program that cannot be started
    try:
        run(task, fds)
        sys.stdout.flush()
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    task = json.loads(sys.stdin.buffer.read())
    status, control, fds = task["status"], task["control"], task["fds"]
    run: Role = program if task["role"] == "program" else runpy.run_path(str(CALLS))["ROLES"][task["role"]]
    try:
        checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "subreaper")
        if task["isolation"] == "namespaces":
            isolate()
        task["number"] = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(control)
            locked(task, run, fds)
        for fd in (*fds, 0, 1):
            os.close(fd)
        line: dict[str, Any] = supervise(child, control, task["seconds"])
    except Exception as error:  # noqa: BLE001  whatever it is, it is said
        line = {"setup": f"{type(error).__name__}: {error}"}
    os.write(status, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
