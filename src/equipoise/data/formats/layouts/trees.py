"""Formats of trees of reasoning steps: one prompt, steps that branch, a value at the end of every path (TPO).

    {"prompt": "2 + 3 * 4 = ?", "tree": {"branches": [
        {"step": "3 * 4 = 12\\n", "branches": [
            {"step": "2 + 12 = 14", "value": 1}, {"step": "2 + 12 = 15", "value": 0}]},
        {"step": "2 + 3 = 5\\n", "branches": [{"step": "5 * 4 = 20", "value": 0}]}]}}

A path's steps are joined as they are; its value is that of its last step. The paths are a scored list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.layouts.ranked import list_of
from equipoise.data.formats.parse_values import Reading, messages_of, number_of, shape, text_of
from equipoise.data.records import Message

MOST_PATHS = 10_000
MOST_CHARACTERS = 100_000_000  # of all paths: each repeats what it shares with others


def tree_text(row: RawRow, reading: Reading) -> Fields:
    """`prompt` and `tree`, its steps continuing the prompt as plain text."""
    texts, values = paths_of(row["tree"], reading)
    return list_of(row, text_of(row.get("prompt"), "prompt"), texts, values, reading)


def tree_chat(row: RawRow, reading: Reading) -> Fields:
    """The same after a prompt of messages; every path is an assistant's turn."""
    texts, values = paths_of(row["tree"], reading)
    answers = [(Message(role="assistant", content=text),) for text in texts]
    return list_of(row, messages_of(row.get("prompt"), "prompt"), answers, values, reading)


def paths_of(tree: Any, reading: Reading) -> tuple[list[str], list[float]]:
    """(text, value) of every path, in the order of the file. Raises Refusal for a node that is not as described."""
    texts: list[str] = []
    values: list[float] = []
    waiting: list[tuple[Any, str, str]] = [(tree, "", "tree")]
    size = 0
    while waiting:
        node, before, place = waiting.pop()
        if not isinstance(node, Mapping):
            raise Refusal("a node of a tree is an object with step, branches or value", place)
        text = before + (text_of(node["step"], f"{place}.step") if "step" in node else "")
        branches = node.get("branches") or []
        if not isinstance(branches, list):
            raise Refusal("branches is a list of nodes", f"{place}.branches")
        if not branches:
            value = number_of(node, "value", reading)
            if value is None:
                raise Refusal("a path has no value at its end", place)
            texts.append(text)
            values.append(value)
            size += len(text)
        if len(texts) + len(waiting) + len(branches) > MOST_PATHS:
            raise Refusal(f"a tree has more than {MOST_PATHS:,} paths", place)
        if size > MOST_CHARACTERS:
            raise Refusal(
                f"the paths of a tree have more than {MOST_CHARACTERS:,} characters together", place
            )
        waiting += [
            (child, text, f"{place}.branches[{i}]") for i, child in reversed(list(enumerate(branches)))
        ]
    return texts, values


def _grown(space: str) -> Callable[[RawRow], bool]:
    """The test that there is a tree with branches, after a prompt in this space."""

    def fits(row: RawRow) -> bool:
        tree = row.get("tree")
        return shape(row.get("prompt")) == space and isinstance(tree, Mapping) and "branches" in tree

    return fits


_TREE = ("prompt", "tree")
TREES = (
    Format("tree-text", "scores", "text", _TREE, tree_text, _grown("text")),
    Format("tree-chat", "scores", "chat", _TREE, tree_chat, _grown("chat")),
)
