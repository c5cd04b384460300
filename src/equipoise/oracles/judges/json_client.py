"""JSON client of a server of one's own: single POST requests, redirects refused, replies bounded, failures sorted."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import Any, TypeAlias

from pydantic import Field, field_validator

from equipoise.oracles.file import OracleFile
from equipoise.oracles.judges.chat_client import NEVER, PASSING, SHOWN, address_without_secrets
from equipoise.oracles.judges.chat_reply import seconds_to_wait
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.questioner import Failure
from equipoise.safe_text import printable

LONGEST = 2**20  # bytes of a reply: a score takes a hundred
Post: TypeAlias = Callable[
    [Mapping[str, Any]], Awaitable[Any]
]  # a request's fields -> the reply's JSON value


class JsonServerFile(OracleFile):
    """A server that answers POST requests of JSON.

    url       address that is asked, with its path
    key       NAME of the environment variable whose value is sent as a bearer token; None: no token
    timeout   of a whole request, in seconds
    """

    url: str
    key: str | None = None
    timeout: float = Field(60.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return address_without_secrets(value)


class JsonClient:
    """A JSON server that is asked one request at a time; repeating is the caller's (`questions.asking`).

    Redirects are not followed: another host would read the texts and the key. called: what messages call it.
    """

    def __init__(self, file: JsonServerFile, called: str) -> None:
        self.file, self.called = file, called

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Post]:
        """A session: post(fields) -> the reply's value. Raises OracleError without library or key."""
        http = _http(self.called)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.file.key is not None:
            key = os.environ.get(self.file.key)
            if not key:
                raise OracleError(f"{self.called}: set the environment variable {self.file.key} to its key")
            headers["Authorization"] = f"Bearer {key}"
        try:
            client = http.AsyncClient(headers=headers, timeout=self.file.timeout, follow_redirects=False)
        except (ValueError, TypeError, UnicodeError) as error:  # a key that no header can hold
            raise OracleError(f"{self.called}: no request can be made: {type(error).__name__}") from None
        async with client:

            async def post(fields: Mapping[str, Any]) -> Any:
                return _value(await self._posted(http, client, _body(fields)))

            yield post

    async def _posted(self, http: Any, client: Any, body: bytes) -> bytes:
        """The body of the reply. The whole request has `timeout` seconds, however slowly a server sends."""
        try:
            return await asyncio.wait_for(self._read(client, body), self.file.timeout)
        except (asyncio.TimeoutError, http.TimeoutException):
            raise Failure(f"no answer within {self.file.timeout:g} s", transient=True) from None
        except http.InvalidURL as error:
            raise OracleError(f"{self.called}: {self.file.url} is no address: {_said(error)}") from None
        except http.HTTPError as error:
            where = f"(at {self.file.url}; does the server run?)"
            raise Failure(f"{type(error).__name__}: {_said(error)} {where}", transient=True) from None

    async def _read(self, client: Any, body: bytes) -> bytes:
        async with client.stream("POST", self.file.url, content=body) as reply:
            status, read = reply.status_code, bytearray()
            if 300 <= status < 400:
                there = printable(str(reply.headers.get("location")), most=SHOWN)
                raise OracleError(
                    f"{self.called}: the server redirects to {there}, which is not followed; give the address that "
                    "answers as `url`"
                )
            if reply.headers.get("content-encoding", "identity").lower() != "identity":
                raise OracleError(f"{self.called}: the reply is compressed, although that was not asked for")
            async for part in reply.aiter_raw():
                read += part
                if len(read) > LONGEST:
                    raise Failure(f"a reply of more than {LONGEST:,} bytes", transient=False)
            if status >= 400:
                raise self._refused(status, bytes(read), reply.headers)
            return bytes(read)

    def _refused(self, status: int, body: bytes, headers: Mapping[str, str]) -> Exception:
        """What a status means: no question will be answered, or this one not now, or this one never."""
        said = f"status {status}: {body[:SHOWN].decode(errors='replace')!r}"
        if status in NEVER or status == 405:
            return OracleError(f"{self.called}: the server at {self.file.url} refuses every question: {said}")
        after = seconds_to_wait(headers, time.time())
        return Failure(said, transient=status in PASSING or status >= 500, after=after)


def number_at(reply: Any, path: str) -> float:
    """The number at a path of fields and indices, such as `data.*.score`; `*` is a list's only element.

    Raises ValueError for a reply that has no finite number there.
    """
    value, steps = reply, path.split(".")
    for count, step in enumerate(steps, 1):
        where = ".".join(steps[:count])
        if step == "*":
            if not isinstance(value, list) or len(value) != 1:
                what = f"{len(value):,} elements" if isinstance(value, list) else f"{_kind(value)}"
                raise ValueError(f"`{where}` must be a list of one element, and is {what}")
            value = value[0]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, Mapping) and step in value:
            value = value[step]
        else:
            raise ValueError(f"it has no `{where}`")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"`{path}` is {_kind(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"`{path}` is not finite")
    return number


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}.get(
        type(value), "a number"
    )


def _body(fields: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise Failure(
            "a text holds half of a character (a lone surrogate), which cannot be sent", transient=False
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise Failure(f"the question cannot be written as JSON: {_said(error)}", transient=False) from None


def _value(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Failure(
            f"the server's reply is no JSON: {body[:SHOWN]!r}", transient=True, unreadable=True
        ) from None


def _said(error: Exception) -> str:
    return printable(" ".join(str(error).split()), most=SHOWN)


def _http(called: str) -> Any:
    """The HTTP library that huggingface-hub brings: httpx2, or httpx with its versions below 2."""
    for name in ("httpx2", "httpx"):
        with suppress(ImportError):
            return import_module(name)
    raise OracleError(f"{called} needs an HTTP client: pip install httpx2")
