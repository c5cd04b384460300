"""JSON client of an oracle's server: single POST requests, their failures as those of a question."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from pydantic import Field, field_validator

from equipoise.json_http import JsonServer, Refused, Unanswered, address_without_secrets, value_of
from equipoise.oracles.file import OracleFile
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.questioner import Failure

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

    called   what messages call it.
    """

    def __init__(self, file: JsonServerFile, called: str) -> None:
        self.file, self.called = file, called

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Post]:
        """A session: post(fields) -> the reply's value. Raises OracleError without library or key."""
        server = JsonServer(url=self.file.url, key=self.file.key, timeout=self.file.timeout)
        try:
            async with server.open() as send:

                async def post(fields: Mapping[str, Any]) -> Any:
                    try:
                        return value_of(await send("", fields))
                    except Unanswered as error:
                        raise Failure(
                            str(error),
                            transient=error.transient,
                            after=error.after,
                            unreadable=error.unreadable,
                        ) from None

                yield post
        except Refused as error:
            raise OracleError(f"{self.called}: {error}") from None


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
