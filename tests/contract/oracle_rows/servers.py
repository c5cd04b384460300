"""Reward models behind a server."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from contract.oracle_folders import bare
from contract.oracle_rows import Listed, replaced
from equipoise import oracles
from equipoise.oracles.protocol import Oracle
from oracles.json_server import lasting, posted


def falling(request: Any, number: int) -> bytes:
    """The score falls with the response's length."""
    score = -len(request["input"][-1]["content"]) / 100
    return json.dumps({"score": score, "others": [score - 1]}).encode()


@cache
def server() -> str:
    return lasting(posted(falling))


def remote(folder: Path) -> Oracle:
    file = folder / "reward.yaml"
    if not file.is_file():
        request = {"input": "{messages}", "tools": "{tools}", "model": "{model}"}
        settings = {"url": f"{server()}/score", "model": "m", "request": request, "score": "score"}
        file.write_text(json.dumps({"kind": "reward_server", **settings}))
    return bare(oracles.load(str(file), policy=oracles.Policy(wait=0.0)))


ORACLES = {
    "remote reward model": Listed(
        build=remote,
        kind="reward_server",
        chat=True,
        scores=True,
        depends={
            "the address": replaced("reward.yaml", "/score", "/reward"),
            "the model": replaced("reward.yaml", '"model": "m"', '"model": "n"'),
            "the request": replaced("reward.yaml", '"tools":', '"functions":'),
            "the place of the score": replaced("reward.yaml", '"score": "score"', '"score": "others.0"'),
        },
    ),
}
