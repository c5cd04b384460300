"""Calls between two sandboxes: one defines the functions of a response, the other runs tests that call them.

Two roles of `sandbox_child.py`, which loads this file by its path; standard library only. Values cross as JSON of plain
kinds. The tests decide by themselves: the response's side can answer what it likes, and can answer nothing else than
values.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import ModuleType
from typing import IO, Any

MOST_ITEMS = 100_000  # of a generator that is read to its end


def serve(task: Mapping[str, Any], fds: Sequence[int]) -> None:
    """The code's functions, called from another sandbox; values that are not plain stay here, known by number."""
    quiet()
    requests, answers = os.fdopen(fds[0], "rb"), os.fdopen(fds[1], "wb")
    module = ModuleType("response")
    sys.modules["response"] = module
    held: list[Any] = []
    try:
        exec(compile(task["code"], "response.py", "exec"), vars(module))
        say(answers, {"names": [name for name in vars(module) if not name.startswith("__")]})
    except BaseException as error:  # noqa: BLE001  whatever the code raises
        say(answers, raised(error))
    for line in requests:
        say(answers, answer(json.loads(line), vars(module), held))


def answer(request: Mapping[str, Any], names: Mapping[str, Any], held: list[Any]) -> dict[str, Any]:
    try:
        what, name, given = request["what"], request["name"], decode(request["given"], held)
        target = names[name] if request["object"] is None else held[request["object"]]
        if what == "value":
            value = target if request["object"] is None else getattr(target, name)
        elif what == "call":
            called = target if request["object"] is None or name is None else getattr(target, name)
            value = called(*given[0], **given[1])
        elif what == "item":
            value = target[given]
        elif what == "length":
            value = len(target)
        else:
            value = list(islice(target, MOST_ITEMS))
        return {"value": encode(value, held), "given": encode(given, held)}
    except BaseException as error:  # noqa: BLE001  whatever the code raises
        return raised(error)


def raised(error: BaseException) -> dict[str, Any]:
    return {"raised": type(error).__name__, "text": str(error)[:200]}


def test(task: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Test statements against the functions of another sandbox. The verdict is made here, where no line of the
    response runs: it can only send plain values."""
    quiet()
    answers, requests, verdict = os.fdopen(fds[0], "rb"), os.fdopen(fds[1], "wb"), os.fdopen(fds[2], "wb")
    remote = Remote(answers, requests, task["longest"])
    passed = [0] * task["count"]
    why = ""
    try:
        offered = remote.start()
        for at, source in enumerate(task["tests"]):
            ok, said = run_test(
                source, remote, [name for name in task["names"] if name in offered], task["entry"]
            )
            passed[at] = int(ok)
            why = why or said
    except BaseException as error:  # noqa: BLE001  whatever the code raises
        why = f"{type(error).__name__}: {error}"
    say(verdict, {"passed": passed, "why": why[:300]})


def run_test(source: str, remote: Remote, names: Sequence[str], entry: str | None) -> tuple[bool, str]:
    space: dict[str, Any] = {"__name__": "tests", **{name: Stub(remote, name) for name in names}}
    if entry:
        if entry not in space:
            return False, f"NameError: the response defines no {entry}"
        space["candidate"] = space[entry]
    try:
        exec(compile(source, "tests.py", "exec"), space)
        return True, ""
    except BaseException as error:  # noqa: BLE001  whatever the code raises
        return False, f"{type(error).__name__}: {error}"


class Gone(Exception):
    """The other sandbox has ended, or does not keep to the protocol."""


class Remote:
    """The response's side of the pipe."""

    def __init__(self, answers: IO[bytes], requests: IO[bytes], longest: int) -> None:
        self.answers, self.requests, self.longest = answers, requests, longest

    def start(self) -> list[str]:
        return [name for name in self._answer().get("names", ()) if isinstance(name, str)]

    def ask(self, what: str, name: str | None = None, given: Any = None, at: int | None = None) -> Any:
        say(self.requests, {"what": what, "name": name, "given": encode(given, None), "object": at})
        reply = self._answer()
        if what == "call":
            put_back(given[0], decode(reply.get("given"), self)[0])
        return decode(reply.get("value"), self)

    def _answer(self) -> dict[str, Any]:
        line = self.answers.readline(self.longest)
        if not line.endswith(b"\n"):
            raise Gone("the response's process has ended" if not line else "an answer is too long")
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise Gone("an answer that is none")
        if "raised" in reply:
            kind = getattr(builtins, str(reply["raised"]), None)
            if not isinstance(kind, type) or not issubclass(kind, Exception):
                kind = RuntimeError
            raise kind(str(reply.get("text")))
        return reply


class Stub:
    """A name of the response: a call is a call over there, anything else is read over there."""

    def __init__(self, remote: Remote, name: str | None, at: int | None = None) -> None:
        self._remote, self._name, self._at = remote, name, at

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._remote.ask("call", self._name, [list(args), kwargs], self._at)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._at is None:
            value = self._remote.ask("value", self._name)
            return getattr(value, name)
        return Stub(self._remote, name, self._at)


class Held(Stub):
    """A value of the response that is not plain. It equals only itself: what the response thinks equal is no proof."""

    def __init__(self, remote: Remote, at: int) -> None:
        super().__init__(remote, None, at)

    def __len__(self) -> int:
        return int(self._remote.ask("length", at=self._at))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._remote.ask("items", at=self._at))

    def __getitem__(self, item: Any) -> Any:
        return self._remote.ask("item", given=item, at=self._at)


def put_back(given: Sequence[Any], now: Sequence[Any]) -> None:
    """What the response changed in lists, sets and mappings that it was given."""
    for old, new in zip(given, now, strict=True):
        if type(old) is type(new) and old != new:
            if isinstance(old, list):
                old[:] = new
            elif isinstance(old, set | dict):
                old.clear()
                old.update(new)


PLAIN = (type(None), bool, int, float, str)
MANY = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: Any, held: list[Any] | None) -> Any:
    """A value as JSON; what is not plain becomes a number, if `held` keeps it."""
    kind = type(value)
    if kind is int and abs(value) >= 2**53:
        return {"int": hex(value)}
    if kind is float and value not in (value, float("inf"), -float("inf")):
        return {"float": "nan"}
    if kind is float and value in (float("inf"), -float("inf")):
        return {"float": repr(value)}
    if kind in PLAIN:
        return value
    if kind is complex:
        return {"complex": [encode(value.real, held), encode(value.imag, held)]}
    if kind in (bytes, bytearray):
        return {"bytes": value.hex()}
    if kind.__name__ in MANY and kind is MANY[kind.__name__]:
        return {kind.__name__: [encode(item, held) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(k, held), encode(v, held)] for k, v in value.items()]}
    if isinstance(value, tuple):  # named ones
        return {"tuple": [encode(item, held) for item in value]}
    if isinstance(value, Held):
        return {"held": value._at}
    if held is None:
        raise TypeError(f"a test can give a response only plain values, not {kind.__name__}")
    held.append(value)
    return {"held": len(held) - 1}


def decode(value: Any, where: Any) -> Any:
    """The value of JSON. `where`: what is held here, or the remote that holds it."""
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind in MANY:
        return MANY[kind](decode(item, where) for item in inside)
    if kind == "dict":
        return {decode(k, where): decode(v, where) for k, v in inside}
    if kind == "int":
        return int(inside, 16)
    if kind == "float":
        return float(inside)
    if kind == "complex":
        return complex(decode(inside[0], where), decode(inside[1], where))
    if kind == "bytes":
        return bytes.fromhex(inside)
    if kind == "held":
        return Held(where, int(inside)) if isinstance(where, Remote) else where[inside]
    raise Gone(f"an answer of an unknown kind {kind!r}")


def say(file: IO[bytes], line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line).encode() + b"\n")
    file.flush()


def quiet() -> None:
    """Standard streams that lead nowhere: in these roles only the pipes speak."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(os.dup(null), mode) for mode in ("r", "w", "w"))


ROLES = {"serve": serve, "test": test}
