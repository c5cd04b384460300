"""A judge's prompt: instructions, and the fenced question with conversation and responses as they were written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
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


class FencedTemplate:
    """A Jinja template of a question to a chat model whose texts from outside are fenced.

    The template is the system message, a line ====, and the question. Each text stands between marks made from a hash
    of all of them, so that none can close its fence; `open` and `close` are the marks. Raises OracleError for a
    template that cannot be read.
    """

    def __init__(self, template: str, name: str) -> None:
        parts = RULE.split(template, maxsplit=1)
        if len(parts) < 2:
            raise OracleError(f"{name}: the prompt needs a line ==== between system message and question")
        self.template, self.name = template, name
        # text for a model, not a page; a misspelt name is an error, not nothing
        environment = ImmutableSandboxedEnvironment(autoescape=False, undefined=StrictUndefined)
        try:
            self._system, self._question = map(environment.from_string, parts)
        except TemplateError as error:
            raise OracleError(f"{name}: the prompt is not a Jinja template: {error}") from error

    def messages(
        self, texts: Mapping[str, str], *, may_hide: Collection[str] = (), **plain: Any
    ) -> list[dict[str, str]]:
        """The system message, and the question with the fenced texts and plain values of our own.

        Raises OracleError if it does not show a text whole, but for those that it may hide.
        """
        disarmed_texts = [disarmed(text) for text in texts.values()]
        mark = hashlib.sha256(json.dumps(disarmed_texts).encode()).hexdigest()[:16]
        opened, closed = f"[[{mark}]]", f"[[/{mark}]]"
        fields = {
            name: f"{opened}\n{text}\n{closed}" for name, text in zip(texts, disarmed_texts, strict=True)
        }
        marks = {"open": opened, "close": closed}
        system = self._system.render(**marks).strip()
        question = self._question.render(**fields, **plain, **marks).strip()
        for name, shown in fields.items():
            if name not in may_hide and shown not in question:
                raise OracleError(
                    f"{self.name}: the prompt does not show the judge {{{{ {name} }}}} as it is"
                )
        return [{"role": "system", "content": system}, {"role": "user", "content": question}]


class JudgePrompt:
    """A judge's prompt: a fenced template with `conversation`, and `response_a` and `response_b` (or `response`).

    `answer_format` in the template says how to answer. Raises OracleError for a template that cannot be written, or
    does not show each response as it is.
    """

    def __init__(self, template: str, answer_format: str, *, scores: bool, name: str) -> None:
        self.answer_format, self.scores = answer_format, scores
        self._fenced = FencedTemplate(template, name)
        samples = (LONG,) if scores else (LONG + "first", LONG + "second")
        try:
            self.messages("a conversation", *samples)
        except OracleError:
            raise
        except Exception as error:
            raise OracleError(f"{name}: the prompt cannot be written: {error}") from error

    def messages(self, prompt: OraclePrompt, *responses: str) -> list[dict[str, str]]:
        """The system message, and the fenced question. Raises OracleError if that does not show a response whole."""
        names = ("conversation", "response") if self.scores else ("conversation", "response_a", "response_b")
        texts = dict(zip(names, (conversation_text(prompt), *responses), strict=True))
        return self._fenced.messages(texts, may_hide=("conversation",), answer_format=self.answer_format)


def conversation_text(prompt: OraclePrompt) -> str:
    """A conversation as a judge reads it, with its tools."""
    text = prompt if isinstance(prompt, str) else "\n".join(_turn(turn) for turn in prompt)
    return f"tools: {json.dumps(tools_of(prompt), default=str)}\n{text}" if tools_of(prompt) else text


def prompt_text(named: str | None, file: Path, standard: str) -> str:
    """The text of a prompt's file, relative to an oracle's file, or of the package's own one. Raises OracleError."""
    place = file.parent / named if named else PROMPTS / standard
    try:
        return place.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OracleError(f"cannot read the prompt of judge {file}: {error}") from error


def _turn(turn: Mapping[str, Any]) -> str:
    """A turn of a conversation for the judge; tool calls are shown as they were made."""
    calls = turn.get("tool_calls")
    return f"{turn['role']}: {turn['content']}" + (f"\n{json.dumps(calls, default=str)}" if calls else "")
