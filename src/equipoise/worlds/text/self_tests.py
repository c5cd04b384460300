"""Self-written code and tests in the text world: prompts by a template, pass tables from a sandbox, and their log."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.data.collate import Prompt, Response
from equipoise.data.errors import DataError, Refusal
from equipoise.data.records import Conversation, template_kwargs_of, tools_of
from equipoise.data.rendering.render import Renderer
from equipoise.oracles.code.code_tests import code_of
from equipoise.oracles.code.self_written import PassTable
from equipoise.play.capabilities import PassTables
from equipoise.play.rows import Rows, objects
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder.run_folder import RunFolder

PLACE = re.compile(r"\{(code|test)\}")
LOG = "self_tests.jsonl"
# ((codes, tests) of each problem) -> the table of each
RunTests = Callable[[Sequence[tuple[Sequence[str], Sequence[str]]]], Sequence[PassTable]]


@dataclass(frozen=True, kw_only=True)
class SelfTests:
    """Renders what asks for code and tests, and runs the one against the other.

    renderer   renders prompts and concatenated answers.
    run        runs codes against tests.
    """

    renderer: Renderer
    run: RunTests

    def asked(self, rows: Rows, template: str) -> Rows:
        """The rows without responses, their prompts in the words of a template.

        Raises DataError for a prompt that leaves no room for a response.
        """
        prompts = [asked_by(self.renderer, prompt, template) for prompt in rows.prompts]
        return replace(rows.columns([]), prompts=objects(prompts), prob=None)

    def pass_tables(self, folder: RunFolder, round: int, rows: Rows, codes: int) -> PassTables:
        """Runs each row's codes against its tests on the first process, which writes the tables into the log."""
        found = folder.ranks.from_first(lambda: self._run(folder.journal, round, rows, codes))
        return PassTables(found["passed"].numpy(), found["tests"].numpy())

    def _run(self, journal: Journal, round: int, rows: Rows, codes: int) -> dict[str, Tensor]:
        texts = [[response.text for response in group] for group in rows.responses]
        tables = self.run([(group[:codes], group[codes:]) for group in texts])
        journal.rewind(LOG, round - 1)
        for prompt, table in zip(rows.prompts, tables, strict=True):
            about = {
                "round": round,
                "prompt": prompt.text,
                "codes_read": int(table.codes.sum()),
                "tests_read": int(table.tests.sum()),
                "passed": table.passed.astype(int).tolist(),
            }
            journal.append(LOG, about)
        shape = (len(rows), codes, rows.responses.shape[1] - codes)
        passed = np.array([table.passed for table in tables], dtype=bool).reshape(shape)
        tests = np.array([table.tests for table in tables], dtype=bool).reshape(shape[0], shape[2])
        return {"passed": torch.from_numpy(passed), "tests": torch.from_numpy(tests)}

    def concatenated(self, rows: Rows, first: np.ndarray, second: np.ndarray, form: str) -> np.ndarray:
        """One response of each row, the code of one column and the test of another; None where their text cannot be
        an answer, such as one that spells the token which ends it."""
        made: list[Response | None] = []
        for prompt, group, *columns in zip(rows.prompts, rows.responses, first, second, strict=True):
            code, test = (code_of(group[column].text, "fenced").strip() for column in columns)
            said = {"code": code, "test": test}
            text = PLACE.sub(lambda place: said[place[1]], form)  # noqa: B023 (called at once)
            try:
                made.append(self.renderer.answer(prompt, text))
            except Refusal:
                made.append(None)
        return objects(made)


def asked_by(renderer: Renderer, prompt: Prompt, template: str) -> Prompt:
    """A prompt in the words of a template: its text, or the last user turn of a conversation, stands for `{prompt}`."""
    if template == "{prompt}":
        return prompt
    context: Any = prompt.context
    tools, kwargs = tools_of(context), template_kwargs_of(context)
    if isinstance(context, str):
        context = template.replace("{prompt}", context)
    else:
        last = max(place for place, turn in enumerate(context) if turn["role"] == "user")
        said = template.replace("{prompt}", str(context[last]["content"]))
        turns = [*context[:last], {**context[last], "content": said}, *context[last + 1 :]]
        context = Conversation(turns, tools, kwargs) if tools or kwargs else turns
    try:
        ids = renderer.prompt(context, tools=tools, template_kwargs=kwargs)
    except Refusal as refusal:
        raise DataError(f"the prompt cannot be asked by the template {template!r}: {refusal}") from refusal
    if len(ids) >= renderer.max_length:
        raise DataError(
            f"a prompt in the words of the template {template!r} has {len(ids)} tokens and leaves no room for a "
            f"response within {renderer.max_length}",
            hint="raise data.max_length, or leave long prompts out with data.max_prompt_length",
        )
    return Prompt(ids, context, renderer.text(ids))
