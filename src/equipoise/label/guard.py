"""The labelling page's guard: token in every path, Host and Origin checked, headers that let nothing else run or load.

The Host check keeps out pages that point a name of theirs at this machine (DNS rebinding), the Origin check those that
post a form to it. A refused request learns nothing.
"""

from __future__ import annotations

import hmac

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
READING = ("GET", "HEAD")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with none at all, a browser would not say where a form comes from
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


class Guarded:
    """An ASGI application behind its checks: 421 (Host), 404 (token) or 403 (Origin of what changes something).

    token  the first part of every path, compared in constant time
    port   of this server, which Host and Origin must name
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token = app, token.encode()
        self.hosts = {f"{name}:{port}".encode() for name in NAMES}
        self.origins = {b"http://" + host for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # nothing else is served
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                given = {name for name, _ in own}
                message["headers"] = own + [header for header in _HEADERS if header[0] not in given]
            await send(message)

        status = self._refused(scope)
        app = PlainTextResponse("refused\n", status) if status else self.app
        await app(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> int | None:
        host, origin = ([v for k, v in scope["headers"] if k == name] for name in (b"host", b"origin"))
        if len(host) != 1 or host[0].lower() not in self.hosts:
            return 421
        first = [*scope["path"].split("/"), ""][1]
        if not hmac.compare_digest(first.encode("utf-8", "replace"), self.token):
            return 404
        if scope["method"] not in READING and (len(origin) != 1 or origin[0] not in self.origins):
            return 403
        return None
