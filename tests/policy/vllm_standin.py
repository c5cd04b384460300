"""A vLLM server for tests: it answers with the weights that were handed to it, and fails as real servers do."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Lock
from typing import Any

import torch
import transformers
from peft import PeftModel

from oracles.json_server import listening

Reply = Any  # a JSON value, a status, or (status, headers, body)
Spoil = Callable[[str, dict[str, Any] | None, Reply], Reply]


class Standin:
    """A server's state. `spoil(path, fields, reply)` may put another reply in the place of the right one.

    asked   (path, fields, authorization) of every request.
    """

    def __init__(self, model: Any, spoil: Spoil | None = None) -> None:
        self.base, self.adapters, self.lock = model, {}, Lock()
        self.spoil = spoil or (lambda path, fields, reply: reply)
        self.asked: list[tuple[str, Any, str | None]] = []

    def completions(self) -> list[dict[str, Any]]:
        return [fields for path, fields, _ in self.asked if path == "/v1/completions"]

    def reply(self, path: str, fields: dict[str, Any] | None) -> Reply:
        match path:
            case "/health" | "/reset_prefix_cache":
                return {}
            case "/v1/models":
                own = {"id": "theirs", "parent": None}
                return {"data": [own, *({"id": name, "parent": "theirs"} for name in self.adapters)]}
            case "/v1/load_lora_adapter":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.adapters[fields["lora_name"]] = PeftModel.from_pretrained(
                        copy.deepcopy(self.base), fields["lora_path"]
                    )
                return {}
            case "/v1/unload_lora_adapter":
                del self.adapters[fields["lora_name"]]
                return {}
            case "/collective_rpc":
                folder = fields["kwargs"]["weights_path"]
                self.base = transformers.AutoModelForCausalLM.from_pretrained(folder)
                return {}
            case "/v1/completions":
                return self.complete(fields)
        return 404

    @torch.no_grad()
    def complete(self, wanted: dict[str, Any]) -> Reply:
        model = self.adapters.get(wanted["model"], self.base)
        draws, ids, logps = torch.Generator().manual_seed(wanted["seed"]), [], []
        while len(ids) < wanted["max_tokens"] and not (ids and ids[-1] in wanted["stop_token_ids"]):
            logp = model(torch.tensor([[*wanted["prompt"], *ids]])).logits[0, -1].log_softmax(-1)
            ids.append(int(torch.multinomial(logp.exp(), 1, generator=draws)))
            logps.append(float(logp[ids[-1]]))
        assert all(map(math.isfinite, logps))
        choice = {
            "token_ids": ids,
            "prompt_token_ids": wanted["prompt"],
            "logprobs": {"token_logprobs": logps},
            "finish_reason": "stop" if ids[-1] in wanted["stop_token_ids"] else "length",
        }
        return {"choices": [choice]}


@contextmanager
def serving(standin: Standin) -> Iterator[str]:
    """Address of the server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None: ...

        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, fields: dict[str, Any] | None) -> None:
            with standin.lock:
                standin.asked.append((self.path, fields, self.headers.get("Authorization")))
                reply = standin.spoil(self.path, fields, standin.reply(self.path, fields))
            status, headers, body = 200, {}, reply
            if isinstance(reply, int):
                status, body = reply, {"error": {"message": f"status {reply}"}}
            elif isinstance(reply, tuple):
                status, headers, body = reply
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    with listening(Handler) as address:
        yield address
