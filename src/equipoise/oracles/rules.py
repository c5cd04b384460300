"""Rule oracles: a user's Python function as the oracle."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.core.links import bradley_terry
from equipoise.oracles.protocol import OracleError, OraclePrompt, shortened


class RuleOracle:
    """An oracle from a function (prompt, response) -> score, or (prompt, a, b) -> P(a beats b).

    A scoring rule compares through Bradley-Terry, P(a > b) = sigma(score(a) - score(b)). `prompt` is text, or
    a list of {"role", "content"} messages. The function must be deterministic.

    answered    called after each answer with the number of answers, if it is set.
    """

    def __init__(self, function: Callable[..., float], name: str) -> None:
        self.function = function
        self.name = name
        self.scores = _arity(function) == 2
        self.answered: Callable[[int], None] | None = None

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        if self.scores:
            return bradley_terry(self.score(prompts, a), self.score(prompts, b))
        return self._call(prompts, a, b)

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        if not self.scores:
            raise OracleError(f"{self.name} compares two responses; it has no scalar score")
        return self._call(prompts, responses)

    def _call(self, *columns: Sequence[Any]) -> Tensor:
        answers = []
        for number, question in enumerate(zip(*columns, strict=True)):
            try:
                answers.append(_number(self.function(*question)))
            except (Exception, SystemExit) as error:  # the user's code may raise anything; name the rule
                why = "it called sys.exit" if isinstance(error, SystemExit) else _why(error)
                raise OracleError(
                    f"rule {self.name} failed at question {number}, prompt {shortened(question[0])}: {why}"
                ) from error
            if self.answered:
                self.answered(1)
        return torch.tensor(answers, dtype=torch.float64)


def _number(answer: Any) -> float:
    """A rule's answer as a float: a number, a truth value, or an array of one number. Raises OracleError."""
    if not isinstance(answer, str | bytes | bytearray):
        try:
            return float(answer)
        except (TypeError, ValueError, RuntimeError):
            if inspect.iscoroutine(answer):
                answer.close()  # else Python warns that nobody awaited it
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
        module = _module(where)
    except (Exception, SystemExit) as error:
        raise OracleError(f"cannot import {where!r}: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        offered = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise OracleError(
            f"{where} has no function {function_name!r} (it has: {', '.join(offered) or 'none'})"
        )
    if _arity(function) not in (2, 3):
        raise OracleError(f"{spec}: a rule takes (prompt, response) or (prompt, a, b)")
    return RuleOracle(function, spec)


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
        sys.path.append(str(path.parent.resolve()))  # for what it imports from beside it
    # under a distinct name, so that a rule in json.py does not replace the library's module
    spec = importlib.util.spec_from_file_location(f"equipoise_rule_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses in the file look themselves up there
    spec.loader.exec_module(module)
    return module
