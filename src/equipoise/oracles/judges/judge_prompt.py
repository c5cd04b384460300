"""A judge's prompt: instructions, and the fenced question with conversation and responses as they were written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from equipoise.data.records import tools_of
from equipoise.oracles.protocol import OracleError, OraclePrompt

PROMPTS = Path(__file__).with_name("prompts")
RULE = re.compile(r"^====[ \t]*\n", re.MULTILINE)  # a line between the system message and the question
LONG = 'A sample, {{ with }} <marks> & "signs", {n}.\n' * 40  # what a prompt's filters would change

# Text that servers read as the frame of a chat: <|im_end|>, <｜User｜>, <s>, <end_of_turn>, [INST], <<SYS>>, ...
FRAME = re.compile(
    r"<(?=[|｜][^<>\n]{0,60}[|｜]>)"
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|start_of_text|end_of_text|turn\|)>)"
    r"|<(?=</?SYS>>)|<(?=\|)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\])",
    re.IGNORECASE,
)


def disarmed(text: str) -> str:
    """A text in which nothing can be read as the frame of a chat: a space behind the first character of each mark.

    Servers turn such marks into the tokens that end a turn and open the next, wherever they stand: a response could
    leave its fence with them, and answer in the judge's place.
    """
    return FRAME.sub(lambda found: f"{found[0]} ", text)


class JudgePrompt:
    """A judge's prompt, a Jinja template: the system message, a line ====, and the question.

    The template has `conversation`, `response_a` and `response_b` (or `response`), each between marks made from a hash
    of the whole question, so that no response can close its fence; `open` and `close`, the marks; `answer_format`, how
    to answer. Raises OracleError for a template that cannot be written, or does not show each response as it is.
    """

    def __init__(self, template: str, answer_format: str, *, scores: bool, name: str) -> None:
        parts = RULE.split(template, maxsplit=1)
        if len(parts) < 2:
            raise OracleError(f"{name}: the prompt needs a line ==== between system message and question")
        self.template, self.answer_format, self.scores, self.name = template, answer_format, scores, name
        # text for a model, not a page; a misspelt name is an error, not nothing
        environment = ImmutableSandboxedEnvironment(autoescape=False, undefined=StrictUndefined)
        try:
            self._system, self._question = map(environment.from_string, parts)
        except TemplateError as error:
            raise OracleError(f"{name}: the prompt is not a Jinja template: {error}") from error
        samples = (LONG,) if scores else (LONG + "first", LONG + "second")
        try:
            self.messages("a conversation", *samples)
        except OracleError:
            raise
        except Exception as error:
            raise OracleError(f"{name}: the prompt cannot be written: {error}") from error

    def messages(self, prompt: OraclePrompt, *responses: str) -> list[dict[str, str]]:
        """The system message, and the fenced question. Raises OracleError if that does not show a response whole."""
        conversation = prompt if isinstance(prompt, str) else "\n".join(_turn(turn) for turn in prompt)
        if tools_of(prompt):
            conversation = f"tools: {json.dumps(tools_of(prompt), default=str)}\n{conversation}"
        texts = [disarmed(text) for text in (conversation, *responses)]
        mark = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
        opened, closed = f"[[{mark}]]", f"[[/{mark}]]"
        fenced = [f"{opened}\n{text}\n{closed}" for text in texts]
        names = ("conversation", "response") if self.scores else ("conversation", "response_a", "response_b")
        fields = dict(zip(names, fenced, strict=True))
        marks = {"open": opened, "close": closed}
        system = self._system.render(**marks).strip()
        question = self._question.render(**fields, answer_format=self.answer_format, **marks).strip()
        for name, shown in list(fields.items())[1:]:
            if shown not in question:
                raise OracleError(
                    f"{self.name}: the prompt does not show the judge {{{{ {name} }}}} as it is"
                )
        return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def prompt_text(named: str | None, file: Path, standard: str) -> str:
    """The text of a prompt's file beside an oracle's file, or of the package's own one. Raises OracleError."""
    place = file.parent / named if named else PROMPTS / standard
    try:
        return place.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OracleError(f"cannot read the prompt of judge {file}: {error}") from error


def _turn(turn: Mapping[str, Any]) -> str:
    """A turn of a conversation for the judge; tool calls are shown as they were made."""
    calls = turn.get("tool_calls")
    return f"{turn['role']}: {turn['content']}" + (f"\n{json.dumps(calls, default=str)}" if calls else "")
