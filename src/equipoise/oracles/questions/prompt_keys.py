"""Keys by which a prompt is found in a file of rows: all of a conversation, or its last user turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def prompt_keys(prompt: Any) -> Iterator[str]:
    """The keys under which a prompt is looked for, the most exact first."""
    if isinstance(prompt, str):
        yield prompt
        return
    turns = [{"role": turn.get("role"), "content": turn.get("content")} for turn in prompt]
    yield json.dumps(turns, sort_keys=True)
    asked = [turn["content"] for turn in turns if turn["role"] == "user"]
    if asked:
        yield str(asked[-1])
