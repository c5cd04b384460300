"""Remote reward models: a server that scores one response, vLLM's or any that answers JSON with a number."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator

from equipoise.data.records import template_kwargs_of, tools_of
from equipoise.oracles.file import digest, settings_of
from equipoise.oracles.judges.chat_client import CHARACTERS
from equipoise.oracles.judges.json_client import JsonClient, JsonServerFile, number_at
from equipoise.oracles.judges.judge_prompt import conversation_text
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.questioner import Ask, Estimate, Failure, Policy
from equipoise.oracles.questions.verdicts import Verdict

Fields: TypeAlias = dict[str, Any]
CHAT: Fields = {
    "model": "{model}",
    "messages": "{messages}",
    "chat_template_kwargs": "{template_kwargs}",
    "use_activation": False,  # logits, not probabilities, which Bradley-Terry would squeeze once more
}
APIS: Mapping[str, tuple[Fields, str]] = {  # (request, path of the score in the reply)
    "plain": ({"input": "{messages}"}, "score"),
    "classify": (CHAT, "data.*.probs.*"),
    "pooling": (CHAT | {"task": "classify"}, "data.*.data.*"),
    "score": (
        {"model": "{model}", "text_1": "{prompt}", "text_2": "{response}", "use_activation": False},
        "data.*.score",
    ),
}
PLACES = ("model", "messages", "text", "prompt", "response", "tools", "template_kwargs")


class RewardServerFile(JsonServerFile):
    """A reward model behind a server, as its YAML file says.

    api      what the server understands: "classify", "pooling" or "score" as vLLM has them, or "plain", which posts
             {"input": messages} and reads {"score": number}
    model    its name at the server, where the request has a place for one
    request  JSON object to post instead of the api's; a text {messages}, {text}, {prompt}, {response}, {tools},
             {template_kwargs} or {model} is replaced by the value
    score    path of the number in the reply instead of the api's: fields and indices with dots between, `*` for a
             list's only element
    price    of one question, for the account and the cap
    """

    api: Literal["plain", "classify", "pooling", "score"] = "plain"
    model: str | None = None
    request: dict[str, Any] | None = None
    score: str | None = Field(None, pattern=r"^[^.\s]+(\.[^.\s]+)*$")
    price: float = Field(0.0, ge=0, allow_inf_nan=False)

    @field_validator("request")
    @classmethod
    def _shows_the_response(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return value
        found = places(value)
        unknown = found - set(PLACES)
        if unknown:
            raise ValueError(f"no value for {{{min(unknown)}}}; there are {', '.join(PLACES)}")
        if not found & {"messages", "text", "response"}:
            raise ValueError("the request must hold the response: {messages}, {text} or {response}")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):  # a date of YAML, or a number that JSON does not have
            raise ValueError("the request holds a value that JSON does not have") from None
        return value


class RewardServer:
    """A reward model that is asked over HTTP for the score r(prompt, response) of one response; higher is better.

    Two scores compare through Bradley-Terry, P(a > b) = sigma(r(a) - r(b)). A reply without one finite number at its
    place is asked again, then counted as failed; it is never turned into a score.
    """

    scores = True
    both_orders = False

    def __init__(self, file: RewardServerFile, name: str) -> None:
        self.file, self.name = file, name
        request, score = APIS[file.api]
        self.request: Mapping[str, Any] = request if file.request is None else file.request
        self.path = file.score or score
        self.places = places(self.request)
        if "model" in self.places and file.model is None:
            raise OracleError(f"{name}: `model` must be the model's name at the server")
        self.client = JsonClient(file, f"reward server {name}")
        about = json.dumps([file.url, file.model, self.request, self.path], sort_keys=True)
        self.fingerprint = f"reward server {file.url} {digest(about)}"

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> RewardServer:
        """The server of a YAML file's settings. Raises OracleError that names the file and the setting."""
        return cls(settings_of(RewardServerFile, settings, file), str(file))

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        """A session with the server. A question is one request: what failed is repeated by the caller."""
        async with self.client.open() as post:

            async def ask(prompt: OraclePrompt, response: str) -> Verdict:
                reply = await post(self._fields(prompt, response))
                try:
                    return Verdict(number_at(reply, self.path), self.file.price)
                except ValueError as error:
                    reason = f"the reply of {self.file.url} has no score: {error}"
                    raise Failure(reason, transient=True, cost=self.file.price, unreadable=True) from None

            yield ask

    def estimate(self, prompt: OraclePrompt, response: str) -> Estimate:
        """Tokens and cost of one question: a token for four characters."""
        length = len(conversation_text(prompt)) + len(response)
        return Estimate(input=length / CHARACTERS, cost=self.file.price)

    def _fields(self, prompt: OraclePrompt, response: str) -> Any:
        """The request's fields. Raises Failure for a question that has no place in it."""
        tools = list(tools_of(prompt))
        if tools and "tools" not in self.places:
            raise Failure("the prompt has tools, and the request no {tools}", transient=False)
        values: Fields = {"response": response, "tools": tools, "model": self.file.model}
        values["template_kwargs"] = dict(template_kwargs_of(prompt) or {})
        values["messages"] = _messages(prompt, response)
        values["prompt"] = _prompt(prompt)
        if "text" in self.places:
            if not isinstance(prompt, str):
                raise Failure(
                    "a conversation has no plain text: the request takes {messages}", transient=False
                )
            values["text"] = prompt + response
        return filled(self.request, values)


def places(template: Any) -> set[str]:
    """The names of the places in a request: texts that are one name in braces."""
    if isinstance(template, Mapping):
        return set().union(*map(places, template.values()))
    if isinstance(template, list):
        return set().union(*map(places, template))
    found = re.fullmatch(r"\{(\w+)\}", template) if isinstance(template, str) else None
    return {found[1]} if found else set()


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """The request with a value in each place; what is filled in is not looked at again."""
    if isinstance(template, Mapping):
        return {name: filled(part, values) for name, part in template.items()}
    if isinstance(template, list):
        return [filled(part, values) for part in template]
    name = next(iter(places(template)), None)
    return template if name is None else values[name]


def _messages(prompt: OraclePrompt, response: str) -> list[Fields]:
    turns = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
    )
    return [*turns, {"role": "assistant", "content": response}]


def _prompt(prompt: OraclePrompt) -> str:
    """The prompt as text: of a single question its words alone, else the turns under their roles."""
    if not isinstance(prompt, str) and len(prompt) == 1 and not tools_of(prompt):
        return str(prompt[0]["content"])
    return conversation_text(prompt)
