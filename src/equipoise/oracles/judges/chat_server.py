"""Chat completions of an OpenAI-compatible server: its settings, one request at a time, and what its refusals mean."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import Field, field_validator

from equipoise.oracles.file import OracleFile
from equipoise.oracles.judges.chat_reply import ChatReply, Unreadable, seconds_to_wait
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.questioner import Failure

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

NEVER = (401, 402, 403, 404)  # statuses that no other question would change
PASSING = (408, 409, 425, 429)  # and all from 500 on: another attempt may help
SHOWN = 200  # characters of a server's words that a message quotes

Complete: TypeAlias = Callable[
    [Mapping[str, Any]], Awaitable[ChatReply]
]  # a request without its model -> the reply


class ServerFile(OracleFile):
    """A model behind a server, as a YAML file says.

    model        name of the model at the server
    base_url     the server's address; None: OpenAI's own, or $OPENAI_BASE_URL
    key          NAME of the environment variable that holds the key; the key itself is never written anywhere
    timeout      of a request, seconds
    """

    model: str
    base_url: str | None = None
    key: str = "OPENAI_API_KEY"
    timeout: float = Field(60.0, gt=0)

    @field_validator("base_url")
    @classmethod
    def _is_an_address_without_secrets(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("the address of a server begins with http:// or https://")
        if value is not None and ("@" in value or "?" in value):
            raise ValueError(
                "an address with a password or a query may hold a secret; keep keys in the environment"
            )
        return value


@dataclass(frozen=True)
class ChatServer:
    """A server that is asked for chat completions.

    called    what messages call it, such as "judge FILE"
    """

    file: ServerFile
    called: str

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Complete]:
        """A session with the server. A request is made once: what failed is repeated by whoever asks.

        Its function raises Failure for a request without a reply, OracleError if the server refuses every request.
        Raises OracleError if the client is not installed or no key is set.
        """
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

            async def complete(request: Mapping[str, Any]) -> ChatReply:
                body = await self._body(client, {"model": self.file.model, **request})
                try:
                    return ChatReply.of(body)
                except Unreadable as error:
                    raise Failure(str(error), transient=True) from None

            yield complete

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


def _said(error: Exception) -> str:
    """An API error in one line, without the request, which may hold a key."""
    status = getattr(error, "status_code", None)
    text = str(getattr(error, "message", error)).replace("\n", " ")[:SHOWN]
    return f"{type(error).__name__}{f' {status}' if status else ''}: {text}"
