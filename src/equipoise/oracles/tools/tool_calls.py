"""Tool calls as an oracle: whether the calls of a response are the right ones of its prompt, or how far they agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from equipoise.data.files.object_rows import Row, read_rows
from equipoise.oracles.file import OracleFile, data_errors, settings_of
from equipoise.oracles.protocol import OracleError, OraclePrompt, shortened
from equipoise.oracles.questions.prompt_keys import prompt_keys
from equipoise.oracles.questions.questioner import Ask, Policy
from equipoise.oracles.questions.verdicts import Verdict
from equipoise.oracles.tools.calls import Call, NoCalls, calls_of, read_calls
from equipoise.oracles.tools.scoring import NO_SIGNATURES, BadTools, Signatures, canonical, exact, graded


class Columns(OracleFile):
    """Names of the columns of the file of calls."""

    prompt: str = "prompt"
    calls: str = "calls"
    tools: str = "tools"


class ToolCallsFile(OracleFile):
    """An oracle of tool calls, as its YAML file says.

    calls     file of rows, each a prompt with its right calls and perhaps the tools' signatures; relative to the YAML
              file
    tools     JSON file of signatures, for rows without their own; relative to the YAML file
    columns   names of its columns
    score     "exact": 1 if the calls are right, else 0; "graded": how far they agree, see `scoring.agreement`
    order     "any": the calls may come in any order; "as given"
    """

    calls: str
    tools: str | None = None
    columns: Columns = Columns()
    score: Literal["exact", "graded"] = "exact"
    order: Literal["any", "as given"] = "any"


@dataclass(frozen=True)
class Right:
    """The right calls of a prompt, and the signatures of its tools."""

    calls: tuple[Call, ...]
    tools: Signatures


class ToolCalls:
    """Verified tool calls as a reward in [0, 1]: an exact verdict, or a graded one.

    A response that cannot be read as calls scores 0. Prompts are found by their text, a conversation by its messages
    or by its last user turn. Raises OracleError for rows that cannot be read and for a prompt without a row.
    """

    scores = True
    both_orders = False

    def __init__(self, file: ToolCallsFile, rows: Mapping[str, Right], name: str) -> None:
        self.file, self.rows, self.name = file, dict(rows), name
        known = [
            [key, [canonical(call) for call in row.calls], canonical(row.tools.defaults)]
            for key, row in sorted(self.rows.items())
        ]
        text = json.dumps([file.score, file.order, known])
        self.fingerprint = (
            f"tool_calls {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
        )

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> ToolCalls:
        """The oracle of a YAML file's settings. Raises OracleError that names the file and the setting or the row."""
        about = settings_of(ToolCallsFile, settings, file)
        tools = NO_SIGNATURES if about.tools is None else _tools(file.parent / about.tools, file)
        with data_errors(str(file)):
            rows = dict(_rows(file.parent / about.calls, about.columns, tools))
        return cls(about, rows, str(file))

    def check_prompts(self, prompts: Sequence[OraclePrompt]) -> None:
        """Raises OracleError for the first prompt without a row."""
        for prompt in prompts:
            self._right(prompt)

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        async def ask(prompt: OraclePrompt, response: str) -> Verdict:
            return self.judge(prompt, response)

        yield ask

    def judge(self, prompt: OraclePrompt, response: str) -> Verdict:
        """The score of one response."""
        right = self._right(prompt)
        try:
            calls = read_calls(response)
        except NoCalls as error:
            return Verdict(0.0, 0.0, {"why": str(error)})
        if self.file.score == "graded":
            return Verdict(graded(calls, right.calls, right.tools), 0.0, {"calls": len(calls)})
        same = exact(calls, right.calls, right.tools, ordered=self.file.order == "as given")
        return Verdict(float(same), 0.0, {"calls": len(calls)})

    def _right(self, prompt: OraclePrompt) -> Right:
        for key in prompt_keys(prompt):
            if key in self.rows:
                return self.rows[key]
        raise OracleError(
            f"{self.name}: {self.file.calls} has no calls for the prompt {shortened(prompt)}; add a row whose "
            f"{self.file.columns.prompt!r} is this prompt or its last user turn"
        )


def _tools(source: Path, file: Path) -> Signatures:
    """The signatures of a file. Raises OracleError that names both files."""
    try:
        return Signatures.of(_json(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, BadTools) as error:
        raise OracleError(f"the oracle {file}: the tools {source} cannot be read: {error}") from error


def _rows(source: Path, columns: Columns, tools: Signatures) -> Iterator[tuple[str, Right]]:
    """(key, right calls) of every row. Raises DataError with file, line and reason."""
    seen: dict[str, Right] = {}
    for row in read_rows(source):
        prompt = row.values.get(columns.prompt)
        if prompt is None or columns.calls not in row.values:
            missing = columns.prompt if prompt is None else columns.calls
            raise row.error(
                f"no column {missing!r}; it has {', '.join(map(repr, row.values))}: name it under `columns`"
            )
        try:
            key = next(prompt_keys(prompt))
        except (AttributeError, TypeError, StopIteration) as error:
            raise row.error(f"the prompt is neither text nor messages: {error}") from error
        right = _right_of(row, columns, tools)
        if key in seen and seen[key] != right:
            raise row.error("another row has the same prompt and other calls; a request has one right answer")
        seen[key] = right
        yield key, right


def _right_of(row: Row, columns: Columns, common: Signatures) -> Right:
    tools = row.values.get(columns.tools)
    try:
        signatures = common if tools is None else Signatures.of(_json(tools))
        return Right(calls_of(row.values[columns.calls]), signatures)
    except (NoCalls, BadTools) as error:
        raise row.error(f"the right calls cannot be read: {error}") from error


def _json(value: Any) -> Any:
    """Signatures, which some containers hold as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadTools("tools are a list of signatures, {name, parameters}, perhaps as JSON") from None
