"""A JSON server for tests: answers posts by a function, and fails as real servers do."""

from __future__ import annotations

import atexit
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = bytes | int | tuple[int, Mapping[str, str], bytes]  # a body, a status, or status, headers and body


@contextmanager
def posted(reply: Callable[[Any, int], Reply], delay: float = 0.0) -> Iterator[tuple[str, list[Any]]]:
    """(address, requests so far) of a server that answers the n-th request, from 1, with reply(request, n)."""
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, self.headers.get("Authorization"), body))
            time.sleep(delay)
            answer = reply(body, len(requests))
            if isinstance(answer, int):
                answer = answer, {}, b'{"error": "no"}'
            status, headers, content = answer if isinstance(answer, tuple) else (200, {}, answer)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    with listening(Handler) as address:
        yield address, requests


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Address of a server whose requests this handler answers."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None: ...  # a client that hangs up, which some tests want

    server = Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lasting(server: AbstractContextManager[tuple[str, list[Any]]]) -> str:
    """Address of a server that lives as long as the tests."""
    atexit.register(
        server.__exit__, None, None, None
    )  # later its thread is gone, and closing would wait for it
    return server.__enter__()[0]
