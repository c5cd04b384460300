"""A `vllm` program for tests, of the standard library alone: it serves on a socket, and answers with drawn tokens.

It writes its process id, its arguments and its GPU into the file that $FAKE_VLLM names, a line for each start, and
when it is put to sleep or woken.
"""

from __future__ import annotations

import json
import os
import random
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

ADAPTERS: set[str] = set()


def note(line: object) -> None:
    with Path(os.environ["FAKE_VLLM"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None: ...

    def address_string(self) -> str:
        return "socket"

    def do_GET(self) -> None:
        self.answer({"data": [{"id": name} for name in ADAPTERS]})

    def do_POST(self) -> None:
        fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith(("/sleep", "/wake_up")):
            note({"posted": self.path})
        elif self.path == "/v1/load_lora_adapter":
            ADAPTERS.add(fields["lora_name"])
        elif self.path == "/v1/unload_lora_adapter":
            ADAPTERS.discard(fields["lora_name"])
        elif self.path == "/v1/completions":
            known = {"policy", *ADAPTERS}
            if fields["model"] not in known:
                raise AssertionError(f"asked {fields['model']}, holding {known}")
            draw = random.Random(fields["seed"])
            ids = [draw.randrange(50, 60) for _ in range(fields["max_tokens"])]
            logprobs = {"token_logprobs": [-1.0] * len(ids)}
            self.answer({"choices": [{"token_ids": ids, "logprobs": logprobs, "finish_reason": "length"}]})
            return
        self.answer({})

    def answer(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    command, model, *options = sys.argv[1:]
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    note({"pid": os.getpid(), "model": model, "options": options, "gpu": gpu})
    if command != "serve" or not (Path(model) / "config.json").exists():
        sys.exit("ValueError: no such model\nand a hint")
    with Server(options[options.index("--uds") + 1], Handler) as server:
        server.serve_forever(0.01)
