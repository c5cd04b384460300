"""An OpenAI-compatible chat server for tests: answers by a function, and fails as real servers do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from oracles.json_server import listening

Reply = dict[str, Any] | int | bytes  # an answer's choice, an HTTP status, or raw bytes of a body


def said(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}, "finish_reason": "stop", "index": 0}


def winner(name: str) -> dict[str, Any]:
    return said(json.dumps({"winner": name}))


def between(text: str, after: str) -> str:
    """The fenced text that follows a heading of the prompt."""
    body = text.split(after, 1)[1].lstrip()
    mark, rest = body.split("\n", 1)
    return rest.split(f"\n{mark.replace('[[', '[[/')}", 1)[0]


@contextmanager
def serving(reply: Callable[[dict[str, Any], int], Reply], delay: float = 0.0) -> Iterator[tuple[str, list]]:
    """(address, requests so far) of a server that answers the n-th request, from 1, with reply(request, n)."""
    requests: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                requests.append(body | {"authorization": self.headers.get("Authorization")})
                number = len(requests)
            time.sleep(delay)
            answer = reply(body, number)
            status, content = 200, b""
            if isinstance(answer, int):
                status, content = answer, json.dumps({"error": {"message": f"status {answer}"}}).encode()
            elif isinstance(answer, bytes):
                content = answer
            else:
                usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
                whole = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
                content = json.dumps(whole | {"choices": [answer], "usage": usage}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status == 429:
                self.send_header("Retry-After", "0.01")
            self.end_headers()
            self.wfile.write(content)

    with listening(Handler) as address:
        yield f"{address}/v1", requests
