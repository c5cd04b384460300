"""JSON over HTTP: single requests, redirects refused, replies bounded, failures sorted by whether repeating may help.

`Refused` says that no request will be answered, `Unanswered` that this one was not; neither holds a key.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, TypeAlias, TypeVar

from equipoise.safe_text import printable

T = TypeVar("T")
LONGEST = 2**20  # bytes of a reply: a score takes a hundred
NEVER = (401, 402, 403, 404)  # statuses that no other request would change
PASSING = (408, 409, 425, 429)  # and all from 500 on: another attempt may help
SHOWN = 200  # characters of an unreadable reply that a message quotes
Send: TypeAlias = Callable[..., Awaitable[bytes]]  # (path, fields or None) -> the reply's body


class Refused(Exception):
    """No request to this server will be answered: its address, key or kind is wrong, or a library lacks.

    status   of HTTP, where the server has answered with one.
    """

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(reason)


class Unanswered(Exception):
    """A request without a reply.

    transient   whether asking again may help.      after   seconds that the server asks to wait, or None.
    unreadable  whether a reply came, and cannot be read.
    """

    def __init__(
        self, reason: str, *, transient: bool, after: float | None = None, unreadable: bool = False
    ) -> None:
        self.transient, self.after, self.unreadable = transient, after, unreadable
        super().__init__(reason)


@dataclass(frozen=True, kw_only=True)
class JsonServer:
    """A server that takes and gives JSON.

    url       its address; paths of requests are appended.
    key       NAME of the environment variable whose value is sent as a bearer token; None: no token.
    timeout   of a whole request, in seconds, however slowly the server sends.
    longest   bytes of a reply, at most.
    socket    file of a Unix domain socket on which it listens instead of at a port.
    """

    url: str
    key: str | None = None
    timeout: float = 60.0
    longest: int = LONGEST
    socket: str | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Send]:
        """A session: send(path, fields) posts JSON, send(path) gets; both give the reply's body.

        Redirects are not followed: another host would read the texts and the key. Raises Refused without library or
        key.
        """
        http = _http()
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.key is not None:
            key = os.environ.get(self.key)
            if not key:
                raise Refused(f"set the environment variable {self.key} to its key")
            headers["Authorization"] = f"Bearer {key}"
        try:
            transport = http.AsyncHTTPTransport(uds=self.socket) if self.socket else None
            # the number of connections is the caller's: it limits the requests in flight
            client = http.AsyncClient(
                headers=headers,
                timeout=self.timeout,
                follow_redirects=False,
                transport=transport,
                limits=http.Limits(max_connections=None),
            )
        except (ValueError, TypeError, UnicodeError) as error:  # a key that no header can hold
            raise Refused(f"no request can be made: {type(error).__name__}") from None
        async with client:

            async def send(path: str = "", fields: Mapping[str, Any] | None = None) -> bytes:
                body = None if fields is None else _body(fields)
                return await self._answered(http, client, self.url + path, body)

            yield send

    async def _answered(self, http: Any, client: Any, url: str, body: bytes | None) -> bytes:
        """The body of the reply. The whole request has `timeout` seconds, however slowly a server sends."""
        try:
            return await asyncio.wait_for(self._read(client, url, body), self.timeout)
        except (asyncio.TimeoutError, http.TimeoutException):
            raise Unanswered(f"no answer within {self.timeout:g} s", transient=True) from None
        except http.InvalidURL as error:
            raise Refused(f"{url} is no address: {_said(error)}") from None
        except http.HTTPError as error:
            where = f"(at {self.url}; does the server run?)"
            raise Unanswered(f"{type(error).__name__}: {_said(error)} {where}", transient=True) from None

    async def _read(self, client: Any, url: str, body: bytes | None) -> bytes:
        async with client.stream("GET" if body is None else "POST", url, content=body) as reply:
            status, read = reply.status_code, bytearray()
            if 300 <= status < 400:
                there = printable(str(reply.headers.get("location")), most=SHOWN)
                raise Refused(
                    f"the server redirects to {there}, which is not followed; give the address that answers as `url`"
                )
            if reply.headers.get("content-encoding", "identity").lower() != "identity":
                raise Refused("the reply is compressed, although that was not asked for")
            async for part in reply.aiter_raw():
                read += part
                if len(read) > self.longest:
                    raise Unanswered(f"a reply of more than {self.longest:,} bytes", transient=False)
            if status >= 400:
                raise self._failed(status, bytes(read), reply.headers)
            return bytes(read)

    def _failed(self, status: int, body: bytes, headers: Mapping[str, str]) -> Exception:
        """What a status means: no request will be answered, or this one not now, or this one never."""
        said = f"status {status}: {body[:SHOWN].decode(errors='replace')!r}"
        if status in NEVER or status == 405:
            return Refused(f"the server at {self.url} refuses every question: {said}", status=status)
        after = seconds_to_wait(headers, time.time())
        return Unanswered(said, transient=status in PASSING or status >= 500, after=after)


def completed(asking: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, from ordinary code, also inside a notebook, whose event loop is already running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(asking)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, asking).result()


def value_of(body: bytes) -> Any:
    """The JSON value of a reply. Raises Unanswered for a body that is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unanswered(
            f"the server's reply is no JSON: {body[:SHOWN]!r}", transient=True, unreadable=True
        ) from None


def address_without_secrets(value: str) -> str:
    """The address of a server. Raises ValueError for one of another protocol, or that may hold a secret."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("the address of a server begins with http:// or https://")
    if "@" in value or "?" in value:
        raise ValueError(
            "an address with a password or a query may hold a secret; keep keys in the environment"
        )
    return value


def seconds_to_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds of a Retry-After header, in seconds or as a date, or of retry-after-ms; None: there is none.

    now    seconds since the epoch
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except (ValueError, TypeError, OverflowError):
                continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    return None


def _body(fields: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise Unanswered(
            "a text holds half of a character (a lone surrogate), which cannot be sent", transient=False
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise Unanswered(f"the question cannot be written as JSON: {_said(error)}", transient=False) from None


def _said(error: Exception) -> str:
    return printable(" ".join(str(error).split()), most=SHOWN)


def _http() -> Any:
    """The HTTP library that huggingface-hub brings: httpx2, or httpx with its versions below 2."""
    for name in ("httpx2", "httpx"):
        with suppress(ImportError):
            return import_module(name)
    raise Refused("it needs an HTTP client: pip install httpx2")
