"""Rule oracles: a user's Python function as the oracle."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import inspect
import math
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch

from equipoise.oracles.protocol import OracleError, shortened
from equipoise.oracles.questions.questioner import Ask, Failure, Policy
from equipoise.oracles.questions.verdicts import Verdict
from equipoise.oracles.rules.code_hash import Unhashable, code_hash
from equipoise.oracles.rules.rule_sources import sources

OWN = ("builtins", "equipoise")  # modules of errors that another attempt does not mend


class RuleOracle:
    """An oracle from a function (prompt, response) -> score, or (prompt, a, b) -> P(a beats b); plain or `async`.

    A scoring rule compares through Bradley-Terry, P(a > b) = sigma(score(a) - score(b)). `prompt` is text, or
    a list of {"role", "content"} messages, which may also have "tool_calls"; tools that belong to the conversation are
    its attribute `tools` (`data.records.Conversation`). Equal questions must get equal answers. The function is asked
    in the main thread unless several questions may be asked at once; then it must be safe to call from threads.

    attributes   names of the scores that the function returns as a mapping, from its attribute `attributes`; the score
                 is then their mean
    files        source files that its verdicts depend on, for its fingerprint; none: all that the function reads is
                 hashed (`code_hash`), and of an object with `__call__` its class
    fingerprint  a text that you change when its verdicts would change, in place of a hash; none: the function's
                 attribute `fingerprint`, if it has one
    unhashed     why the fingerprint does not say all that its verdicts depend on; None: it does
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        files: Sequence[Path] = (),
        *,
        fingerprint: str | None = None,
    ) -> None:
        self.function, self.name, self.both_orders = function, name, False
        self.scores = _arity(function) == 2
        self.attributes = tuple(map(str, getattr(function, "attributes", ())))
        self.unhashed: str | None = None
        self.fingerprint = f"{name} {fingerprint or self._hash(files)}"

    def _hash(self, files: Sequence[Path]) -> str:
        if files:
            return source_hash(self.function, files)
        own = getattr(self.function, "fingerprint", None)
        if isinstance(own, str) and own:
            return own
        try:
            if isinstance(self.function, FunctionType | BuiltinFunctionType | MethodType | partial):
                return code_hash(self.function)
            self.unhashed = f"what its {type(self.function).__qualname__} holds is not hashed"
            return code_hash(type(self.function))
        except Unhashable as error:
            self.unhashed = str(error)
            return uuid.uuid4().hex  # it shares verdicts with no other

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        with modes_restored():
            if inspect.iscoroutinefunction(self.function) or policy.concurrency == 1:
                yield self._ask
                return
            with ThreadPoolExecutor(policy.concurrency) as threads:

                async def ask(*question: Any) -> Verdict:
                    call = asyncio.get_running_loop().run_in_executor(threads, self._call, question)
                    return await self._answer(await call, question)

                yield ask

    async def _ask(self, *question: Any) -> Verdict:
        return await self._answer(self._call(question), question)

    async def _answer(self, answer: Any, question: Sequence[Any]) -> Verdict:
        if inspect.isawaitable(answer):
            try:
                answer = await answer
            except BaseException as error:
                if _ends_the_process(error) or isinstance(error, asyncio.CancelledError):
                    raise
                raise self._failure(error, question) from error
        return self._verdict(answer, question)

    def _call(self, question: Sequence[Any]) -> Any:
        try:
            return self.function(*question)
        except BaseException as error:  # the user's code may raise anything; name the rule
            if _ends_the_process(error):
                raise
            raise self._failure(error, question) from error

    def _verdict(self, answer: Any, question: Sequence[Any]) -> Verdict:
        try:
            if self.attributes and isinstance(answer, Mapping):
                scores = {name: _number(answer.get(name)) for name in self.attributes}
                return Verdict(math.fsum(scores.values()) / len(scores), scores=scores)
            return Verdict(_number(answer))
        except OracleError as error:
            raise self._failure(error, question) from error

    def _failure(self, error: BaseException, question: Sequence[Any]) -> Failure:
        """A network error or a client library's own error may pass; a programming error will not."""
        why = "it called sys.exit" if isinstance(error, SystemExit) else _why(error)
        passing = isinstance(error, OSError) or type(error).__module__.partition(".")[0] not in OWN
        return Failure(
            f"rule {self.name} failed on the prompt {shortened(question[0])}: {why}", transient=passing
        )


@contextmanager
def modes_restored() -> Iterator[None]:
    """Context manager: what a rule's code changes for the whole process is as before: the working directory, and
    PyTorch's gradients and default dtype, which rules that hold a model often set."""
    folder, dtype, gradients = Path.cwd(), torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        yield
    finally:
        os.chdir(folder)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)


def _ends_the_process(error: BaseException) -> bool:
    """Whether an error asks the process to end, from a signal's handler; all others are the rule's own."""
    ours = type(error).__module__.partition(".")[0] == "equipoise"
    return isinstance(error, KeyboardInterrupt) or (ours and not isinstance(error, Exception))


def source_hash(function: Callable[..., Any], files: Sequence[Path]) -> str:
    """Hash of a function's bytecode and of the source files that its verdicts depend on."""
    digest = hashlib.sha256(getattr(getattr(function, "__code__", None), "co_code", b""))
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _number(answer: Any) -> float:
    """A rule's answer as a float: a number, a truth value, or an array of one number. Raises OracleError."""
    if not isinstance(answer, str | bytes | bytearray):
        try:
            item = getattr(answer, "item", None)
            return float(item() if callable(item) else answer)
        except (TypeError, ValueError, RuntimeError):
            pass
        except OverflowError:
            return float("inf")  # refused as not finite
    raise OracleError(
        f"it must return one number, and returned {shortened(answer)} ({type(answer).__name__})"
    )


def _why(error: BaseException) -> str:
    return str(error) if isinstance(error, OracleError) else f"{type(error).__name__}: {error}"


def load_rule(spec: str) -> RuleOracle:
    """Imports a rule: `package.module:function` or `path/to/file.py:function`, the user's own code.

    Raises OracleError if it cannot be imported or does not take two or three arguments.
    """
    where, _, function_name = spec.rpartition(":")
    if not where or not function_name.isidentifier():
        raise OracleError(f"a rule must be written module:function or file.py:function, got {spec!r}")
    try:
        with modes_restored():
            module = _module(where)
    except BaseException as error:
        if _ends_the_process(error):
            raise
        raise OracleError(f"cannot import {where!r}: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        offered = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise OracleError(
            f"{where} has no function {function_name!r} (it has: {', '.join(offered) or 'none'})"
        )
    check_arity(function, spec)
    return RuleOracle(function, spec, sources(spec))


def check_arity(function: Callable[..., Any], name: str) -> None:
    """Raises OracleError unless a rule takes two or three arguments."""
    if _arity(function) not in (2, 3):
        raise OracleError(f"{name}: a rule takes (prompt, response) or (prompt, a, b)")


def _arity(function: Callable[..., Any]) -> int:
    """Number of required positional arguments; 0 where Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return 0
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
    )


def _module(where: str) -> Any:
    if not where.endswith(".py"):
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            # unlike `python -m`, a console script does not search the working directory
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(where)
    path = Path(where)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if str(path.parent.resolve()) not in sys.path:
        sys.path.append(str(path.parent.resolve()))  # for what it imports from its folder
    # under a distinct name, so that a rule in json.py does not replace the library's module
    spec = importlib.util.spec_from_file_location(f"equipoise_rule_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses in the file look themselves up there
    spec.loader.exec_module(module)
    return module
