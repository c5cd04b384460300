"""Tests of code as an oracle: the share of a problem's tests that the code of a response passes, in a sandbox."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from equipoise.data.files.object_rows import read_rows
from equipoise.oracles.code.problems import BadTests, Problem, problem_of
from equipoise.oracles.code.sandbox import Isolation, Limits, Sandbox, SandboxError, guarantees
from equipoise.oracles.file import OracleFile, data_errors, settings_of
from equipoise.oracles.protocol import OracleError, OraclePrompt, shortened
from equipoise.oracles.questions.questioner import Ask, Failure, Policy
from equipoise.oracles.questions.verdicts import Verdict

FENCE = re.compile(r"^(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


class Columns(OracleFile):
    """Names of the columns of the file of tests."""

    prompt: str = "prompt"
    tests: str = "tests"
    entry_point: str = "entry_point"


class LimitSettings(OracleFile):
    """Limits of one run of the code; see `sandbox.Limits`. Memory, files and output in MiB."""

    seconds: int = Field(5, gt=0)
    wall: float = Field(15.0, gt=0)
    memory: int = Field(512, gt=0)
    processes: int = Field(16, gt=0)
    file: int = Field(16, gt=0)
    output: int = Field(1, gt=0)

    def limits(self) -> Limits:
        sizes = {name: getattr(self, name) * 2**20 for name in ("memory", "file", "output")}
        return Limits(seconds=self.seconds, wall=self.wall, processes=self.processes, **sizes)


class TestsFile(OracleFile):
    """An oracle of tests, as its YAML file says.

    tests       file of problems, a row for each prompt with its tests; relative to the YAML file. The data of the run
                may be this file: columns that training does not read are left alone
    columns     names of its columns
    code        "fenced": the last fenced block of a response, or all of it where there is none; "whole": all of it;
                "continued": the prompt and the response together, for models that complete code
    score       "share" of the tests that pass, or "all": 1 if all pass, else 0
    isolation   "namespaces"; "limits": resource limits alone, on a machine without namespaces: network and files are
                then open to the code
    limits      of one run
    """

    __test__ = False  # no test class of pytest
    tests: str
    columns: Columns = Columns()
    code: Literal["fenced", "whole", "continued"] = "fenced"
    score: Literal["share", "all"] = "share"
    isolation: Isolation = "namespaces"
    limits: LimitSettings = LimitSettings()


class CodeTests:
    """Unit tests as a reward: the share of a prompt's tests that the code of a response passes, in [0, 1].

    Problems are found by the prompt: a text by itself, a conversation by its messages, or by its last user turn.
    Raises OracleError for tests that cannot be read, a prompt without tests, and on a machine that cannot isolate code,
    unless the file says that this is accepted.
    """

    scores = True
    both_orders = False

    def __init__(self, file: TestsFile, problems: Mapping[str, Problem], name: str) -> None:
        self.file, self.problems, self.name = file, dict(problems), name
        held = guarantees()
        if file.isolation == "namespaces" and held.isolation != "namespaces":
            raise OracleError(
                f"{name}: this machine cannot isolate code ({held.why}); run where user namespaces are allowed, or set "
                f"`isolation: limits`, which does not enforce: {', '.join(held.not_enforced)}"
            )
        self.sandbox = Sandbox(file.limits.limits(), file.isolation)
        about = [file.model_dump(exclude={"tests", "columns", "isolation"}), sys.version_info[:2]]
        text = json.dumps(
            [about, sorted((key, p.canonical()) for key, p in self.problems.items())], default=str
        )
        self.fingerprint = f"tests {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the sandbox enforces on this machine, for the run's announcement."""
        return (f"code of responses is run in a sandbox; {guarantees_of(self.file.isolation)}",)

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> CodeTests:
        """The oracle of a YAML file's settings. Raises OracleError that names the file and the setting or the row."""
        about = settings_of(TestsFile, settings, file)
        source = file.parent / about.tests
        with data_errors(str(file)):
            problems = dict(_problems(source, about.columns))
        return cls(about, problems, str(file))

    def check_prompts(self, prompts: Sequence[OraclePrompt]) -> None:
        """Raises OracleError for the first prompt without tests."""
        for prompt in prompts:
            self._problem(prompt)

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        with ThreadPoolExecutor(policy.concurrency) as threads:

            async def ask(prompt: OraclePrompt, response: str) -> Verdict:
                return await asyncio.get_running_loop().run_in_executor(threads, self.run, prompt, response)

            yield ask

    def run(self, prompt: OraclePrompt, response: str) -> Verdict:
        """Run a prompt's tests on one response. Raises Failure where the sandbox itself failed."""
        problem = self._problem(prompt)
        code = code_of(response, self.file.code, prompt)
        try:
            passed, why = problem.run(self.sandbox, code)
        except SandboxError as error:
            raise Failure(f"{self.name}: {error}", transient=True) from error
        share = sum(passed) / len(passed)
        about = {"passed": sum(passed), "of": len(passed), "why": why}
        return Verdict(share if self.file.score == "share" else float(share == 1), 0.0, about)

    def _problem(self, prompt: OraclePrompt) -> Problem:
        for key in _keys(prompt):
            if key in self.problems:
                return self.problems[key]
        raise OracleError(
            f"{self.name}: {self.file.tests} has no tests for the prompt {shortened(prompt)}; add a row whose "
            f"{self.file.columns.prompt!r} is this prompt or its last user turn"
        )


def guarantees_of(isolation: Isolation) -> str:
    """What this isolation enforces on this machine, as a sentence."""
    held = guarantees()
    return (
        held.sentence()
        if held.isolation == isolation
        else f"isolation is off: {isolation} only, by its own setting"
    )


def code_of(response: str, how: str, prompt: OraclePrompt = "") -> str:
    """The code of a response: its last fenced block, if it has one; a block that is not closed ends with the text."""
    if how == "continued":
        return (prompt if isinstance(prompt, str) else str(prompt[-1]["content"])) + response
    blocks = FENCE.findall(response) if how == "fenced" else []
    return blocks[-1][2] if blocks else response


def _keys(prompt: Any) -> Iterator[str]:
    """The keys under which a prompt's tests are looked for, the most exact first."""
    if isinstance(prompt, str):
        yield prompt
        return
    turns = [{"role": turn.get("role"), "content": turn.get("content")} for turn in prompt]
    yield json.dumps(turns, sort_keys=True)
    asked = [turn["content"] for turn in turns if turn["role"] == "user"]
    if asked:
        yield str(asked[-1])


def _problems(source: Path, columns: Columns) -> Iterator[tuple[str, Problem]]:
    """(key, problem) of every row. Raises DataError with file, line and reason."""
    seen: dict[str, Problem] = {}
    for row in read_rows(source):
        prompt, tests = row.values.get(columns.prompt), row.values.get(columns.tests)
        if prompt is None or tests is None:
            missing = columns.prompt if prompt is None else columns.tests
            raise row.error(
                f"no column {missing!r}; it has {', '.join(map(repr, row.values))}: name it under `columns`"
            )
        try:
            key = next(_keys(prompt))
            problem = problem_of(tests, row.values.get(columns.entry_point))
        except (BadTests, AttributeError, TypeError, StopIteration) as error:
            raise row.error(str(error)) from error
        if key in seen and seen[key] != problem:
            raise row.error("another row has the same prompt and other tests; join them in one row")
        seen[key] = problem
        yield key, problem
