"""Chat client of OpenAI-compatible servers: single requests with their cost, failures sorted, JSON read strictly."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pydantic import Field, field_validator

from equipoise.json_http import NEVER, PASSING, SHOWN, address_without_secrets, seconds_to_wait
from equipoise.oracles.file import OracleFile
from equipoise.oracles.judges.chat_reply import ChatReply, Unreadable
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.questioner import Estimate, Failure

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")
CHARACTERS = 4.0  # of a token, where tokens are estimated
Messages: TypeAlias = Sequence[Mapping[str, str]]


class Price(OracleFile):
    """Price of a model's tokens, in money per million."""

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)


class ServerFile(OracleFile):
    """A chat model behind an OpenAI-compatible server.

    model        name of the model at the server
    base_url     the server's address; None: OpenAI's own, or $OPENAI_BASE_URL
    key          NAME of the environment variable that holds the key; the key itself is never written anywhere
    structured   whether the server can enforce a JSON schema
    temperature, max_tokens, timeout   of a request; seconds
    price        per million tokens, for the account and the cap
    """

    model: str
    base_url: str | None = None
    key: str = "OPENAI_API_KEY"
    structured: bool = True
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(256, gt=0)
    timeout: float = Field(60.0, gt=0)
    price: Price = Price()

    @field_validator("base_url")
    @classmethod
    def _is_an_address_without_secrets(cls, value: str | None) -> str | None:
        return None if value is None else address_without_secrets(value)


@dataclass(frozen=True)
class Charged:
    """A reply with its tokens (of the request, of the answer) and its cost."""

    reply: ChatReply
    tokens: tuple[int, int]
    cost: float


Send: TypeAlias = Callable[[Messages, Mapping[str, Any]], Awaitable[Charged]]


class ChatClient:
    """A chat model that is asked one request at a time; repeating is the caller's (`questions.asking`).

    called   what messages call it, such as "judge FILE"
    """

    def __init__(self, file: ServerFile, called: str) -> None:
        self.file, self.called = file, called

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Send]:
        """A session: send(messages, more fields of the request). Raises OracleError without client or key."""
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise OracleError(
                f"{self.called} needs the openai client: pip install 'equipoise[judge]'"
            ) from error
        # servers of one's own often take no key, but the client wants one
        key = os.environ.get(self.file.key) or ("none" if self.file.base_url else None)
        if key is None:
            raise OracleError(f"{self.called}: set the environment variable {self.file.key} to its key")
        async with AsyncOpenAI(
            api_key=key, base_url=self.file.base_url, timeout=self.file.timeout, max_retries=0
        ) as client:

            async def send(messages: Messages, fields: Mapping[str, Any]) -> Charged:
                return await self._send(client, messages, fields)

            yield send

    def estimate(self, messages: Messages, answer: float) -> Estimate:
        """Tokens and cost of a request: a token for four characters, and an answer of so many tokens."""
        return self._priced(_length(messages) / CHARACTERS, answer)

    def json_fields(self, name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a request for a JSON object with exactly these properties."""
        fields: dict[str, Any] = {"max_tokens": self.file.max_tokens}
        if self.file.structured:
            schema = {"name": name, "strict": True, "schema": closed_object(properties)}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        return fields

    def read_json(self, charged: Charged, read: Callable[[Any], T]) -> T:
        """What `read` makes of the JSON object that ends an answer. Raises Failure, with its cost, for any other."""
        said = charged.reply.text
        try:
            end = said.rindex("}") + 1
            if said[end:].strip(" \t\r\n`"):
                raise ValueError("words behind the verdict, which may be a quotation")
            return read(json.loads(said[said.index("{") : end], object_pairs_hook=_once))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            cut = f" (cut off after max_tokens = {self.file.max_tokens:,})" if charged.reply.cut else ""
            raise Failure(
                f"an answer that cannot be read{cut}: {said[:SHOWN]!r}",
                transient=True,
                cost=charged.cost,
                unreadable=True,
            ) from None

    def _priced(self, input: float, output: float) -> Estimate:
        price = self.file.price
        cost = (input * price.input + output * price.output) / 1e6
        return Estimate(input=input, output=output, cost=cost)

    async def _send(self, client: AsyncOpenAI, messages: Messages, fields: Mapping[str, Any]) -> Charged:
        asked = {"model": self.file.model, "messages": messages, "temperature": self.file.temperature}
        body = await self._body(client, asked | dict(fields))
        try:
            reply = ChatReply.of(body)
        except Unreadable as error:
            raise Failure(str(error), transient=True) from None
        # a server that counts nothing is charged by length, so that a limit of cost still holds
        used = reply.tokens or (
            math.ceil(_length(messages) / CHARACTERS),
            math.ceil(len(reply.text) / CHARACTERS),
        )
        return Charged(reply, used, self._priced(*used).cost)

    async def _body(self, client: AsyncOpenAI, request: Mapping[str, Any]) -> bytes:
        """The body of the server's reply to one request. The whole request has `timeout` seconds: a client's own
        timeout begins again with each piece that a slow server sends."""
        import openai

        asking = client.chat.completions.with_raw_response.create(**request)
        try:
            return bytes((await asyncio.wait_for(asking, self.file.timeout)).content)
        except asyncio.TimeoutError:
            raise Failure(f"no answer within {self.file.timeout:g} s", transient=True) from None
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except openai.OpenAIError as error:
            passing = isinstance(error, openai.APIConnectionError)
            where = f" (at {client.base_url}; does the server run?)" if passing else ""
            raise Failure(_said(error) + where, transient=passing) from None
        except UnicodeEncodeError:
            raise Failure(
                "a text holds half of a character (a lone surrogate), which cannot be sent", transient=False
            ) from None
        except ValueError as error:  # of the client's own, on a body that is no JSON
            raise Failure(f"the server's reply cannot be read: {error}", transient=True) from None

    def _refused(self, error: APIStatusError) -> Exception:
        """What a status means: no question will be answered, or this one not now, or this one never."""
        status = error.status_code
        if status in NEVER or error.code == "insufficient_quota":
            return OracleError(f"{self.called}: the server refuses every question: {_said(error)}")
        after = seconds_to_wait(error.response.headers, time.time())
        return Failure(_said(error), transient=status in PASSING or status >= 500, after=after)


def closed_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def score_within(number: Any, low: float, high: float) -> float:
    """A score of a scale. Raises ValueError for one outside it, and as `float` does."""
    if isinstance(number, bool):
        raise ValueError("a truth value is no score")
    score = float(number)
    if not low <= score <= high:
        raise ValueError(f"a score outside {low:g} to {high:g}")
    return score


def _length(messages: Messages) -> int:
    return sum(len(message["content"]) for message in messages)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each of whose names stands there once: of two verdicts neither counts."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name that stands there twice")
    return dict(pairs)


def _said(error: Exception) -> str:
    """An API error in one line, without the request, which may hold a key."""
    status = getattr(error, "status_code", None)
    text = str(getattr(error, "message", error)).replace("\n", " ")[:SHOWN]
    return f"{type(error).__name__}{f' {status}' if status else ''}: {text}"
