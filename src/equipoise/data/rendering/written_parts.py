"""Proof that a chat template writes every part of a conversation: contents, reasoning, tool calls, tool schemas.

A template may drop a turn whose role it does not know, a tool it has no place for, or the reasoning of an answer. Each
part is therefore replaced by a distinctive word once for each structure of conversation, and its word looked for; then
the contents themselves are found in the real text, between the pieces that the template writes around them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from equipoise.data.errors import Refusal
from equipoise.data.records import Message

Render: TypeAlias = Callable[[Sequence[Message], Sequence[Any]], str]
Span: TypeAlias = tuple[int, int]
REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
_WORD = "Qz{}Sententia"
_WORDS = re.compile(r"Qz(\d+)Sententia")
_NAMES = r"(?:[\w:]*think\w*|reasoning|thought)"
_THOUGHT = re.compile(
    rf"^\s*(?:<{_NAMES}>|\[THINK\])?(.*?)(?:</{_NAMES}>|\[/THINK\])", re.DOTALL | re.IGNORECASE
)
_KEPT_STRUCTURES = 4096


@dataclass(frozen=True)
class Part:
    """A part of a conversation.

    turn   index of its turn; -1 for a tool schema
    kind   what it is; "reasoning" is a field of its own or what stands before </think>; "order": a content that stands
           before that of an earlier turn
    text   what must be found
    """

    turn: int
    kind: Literal["content", "reasoning", "tool call", "tool", "order"]
    text: str


def pieces_of(content: str) -> tuple[str, str]:
    """(reasoning, rest) of a content that begins with a <think> part; ("", content) of any other."""
    found = _THOUGHT.match(content)
    return (found[1].strip(), content[found.end() :].strip()) if found else ("", content.strip())


def appears(text: str, whole: str) -> bool:
    """Whether a text stands in another, as it is or as a JSON string."""
    bare = text.strip()
    return (
        bare in whole
        or json.dumps(bare, ensure_ascii=False)[1:-1] in whole
        or json.dumps(bare)[1:-1] in whole
    )


def reasoning_of(turn: Message) -> str:
    """The text of a turn's reasoning field, "" without one."""
    given = (turn.extra.get(name) for name in REASONING_FIELDS)
    return next((text for text in given if isinstance(text, str) and text.strip()), "")


def call_parts(turn: Message) -> list[str]:
    """Names, argument names and values of a turn's tool calls, as texts that must be found in its rendering."""
    found: list[str] = []
    calls = turn.extra.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function", call) if isinstance(call, Mapping) else call
        if isinstance(function, Mapping):
            found += _texts([function.get("name"), function.get("arguments", function.get("input"))])
        else:
            found += _texts(function)
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in _texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    if value is None or isinstance(value, bool):
        return []  # written in as many ways as there are languages
    text = value if isinstance(value, str) else json.dumps(value)
    return [text] if text.strip() else []


def tool_parts(tool: Any) -> list[str]:
    """Name, description and parameter names of a tool schema."""
    function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
    if not isinstance(function, Mapping):
        return []
    schema = function.get("parameters", function.get("input_schema"))
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    names = list(properties) if isinstance(properties, Mapping) else []
    return _texts([function.get("name"), function.get("description"), names])


class WrittenParts:
    """Finds the parts of conversations in their renderings; remembers what each structure of conversation gives."""

    def __init__(self) -> None:
        self._structures: dict[str, frozenset[tuple[int, str]]] = {}
        self._skeletons: dict[str, tuple[str, ...] | None] = {}

    def lost(
        self, turns: Sequence[Message], tools: Sequence[Any], text: str, render: Render, about: str
    ) -> tuple[list[Part], list[Span] | None]:
        """(parts that the rendering `text` lacks, where each turn's content stands in it).

        render   renders other turns and tools in the same way.
        about    everything else that the rendering depends on: settings, and whether it is open or closed.

        The places are None where the template treats these contents in a way of its own, as it does with <think>;
        each content is then looked for as a whole.
        """
        gone = self._structure(turns, tools, render, about)
        spans = self._spans(turns, tools, text, render, about)
        lost = [
            Part(-1, "tool", str(name))
            for tool in tools
            for name in tool_parts(tool)[:1]
            if (-1, "tool") in gone
        ]
        lost += [
            Part(-1, "tool", t)
            for tool in tools
            for t in tool_parts(tool)
            if not lost and not appears(t, text)
        ]
        for place, turn in enumerate(turns):
            lost += self._lost_of(place, turn, text, gone, exact=spans is not None)
        return lost, spans

    def _lost_of(
        self, place: int, turn: Message, text: str, gone: frozenset[tuple[int, str]], *, exact: bool
    ) -> Iterator[Part]:
        thought, rest = pieces_of(turn.content)
        if turn.content.strip() and (place, "content") in gone:
            yield Part(place, "content", turn.content)
        elif not exact:
            if rest and not appears(rest, text):
                yield Part(place, "content", rest)
            if thought and not appears(thought, text):
                yield Part(place, "reasoning", thought)
        if (place, "order") in gone:
            yield Part(place, "order", turn.content)
        given = reasoning_of(turn)
        if given and ((place, "reasoning") in gone or not appears(given, text)):
            yield Part(place, "reasoning", given)
        calls = call_parts(turn)
        missing = next((part for part in calls if not appears(part, text)), None)
        if calls and (missing is not None or (place, "tool call") in gone):
            yield Part(place, "tool call", missing or calls[0])

    def _structure(
        self, turns: Sequence[Message], tools: Sequence[Any], render: Render, about: str
    ) -> frozenset[tuple[int, str]]:
        """(turn, kind) of the parts whose words are missing when every part is a distinctive word; of a turn that
        stands before an earlier one, "order". A system turn may stand anywhere: some templates put it last."""
        words: list[tuple[int, str]] = []

        def word(turn: int, kind: str) -> str:
            words.append((turn, kind))
            return _WORD.format(len(words) - 1)

        named = [_with_words(place, turn, word) for place, turn in enumerate(turns)]
        schemas = [_schema_with_words(tool, word) for tool in tools]
        key = json.dumps([[turn.as_dict() for turn in named], schemas, about], default=str)
        if key not in self._structures:
            try:
                seen = [int(number) for number in _WORDS.findall(render(named, schemas))]
            except Refusal:  # the template reads its parts: the real ones are looked for instead
                seen = list(range(len(words)))
            gone = {w for n, w in enumerate(words) if n not in seen}
            said = [
                words[n][0] for n in seen if words[n][1] == "content" and turns[words[n][0]].role != "system"
            ]
            _keep(self._structures, key, frozenset(gone.union((turn, "order") for turn in _early(said))))
        return self._structures[key]

    def _spans(
        self, turns: Sequence[Message], tools: Sequence[Any], text: str, render: Render, about: str
    ) -> list[Span] | None:
        """Where each turn's content stands, if the template writes the contents as they are but for outer space."""
        named = [
            replace(turn, content=_WORD.format(place)) if turn.content.strip() else turn
            for place, turn in enumerate(turns)
        ]
        key = json.dumps([[turn.as_dict() for turn in named], tools, about], default=str)
        if key not in self._skeletons:
            try:
                _keep(self._skeletons, key, tuple(_WORDS.split(render(named, tools))))
            except Refusal:
                _keep(self._skeletons, key, None)
        skeleton = self._skeletons[key]
        return None if skeleton is None else _matched(skeleton, [turn.content for turn in turns], text)


def _early(said: Sequence[int]) -> list[int]:
    """The numbers that first stand before a smaller one."""
    first = list(dict.fromkeys(said))
    return [turn for place, turn in enumerate(first) if any(later < turn for later in first[place:])]


def _keep(store: dict[str, Any], key: str, value: Any) -> None:
    if len(store) >= _KEPT_STRUCTURES:
        store.clear()
    store[key] = value


def _with_words(place: int, turn: Message, word: Callable[[int, str], str]) -> Message:
    extra = dict(turn.extra)
    content = word(place, "content") if turn.content.strip() else turn.content
    if reasoning_of(turn):
        thought = word(place, "reasoning")
        extra |= {name: thought for name in REASONING_FIELDS if name in extra}
    if isinstance(extra.get("tool_calls"), list):
        extra["tool_calls"] = [_call_with_words(place, call, word) for call in extra["tool_calls"]]
    return replace(turn, content=content, extra=extra)


def _call_with_words(place: int, call: Any, word: Callable[[int, str], str]) -> Any:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return call
    arguments = _leaves(function.get("arguments"), lambda: word(place, "tool call"))
    made = {**function, "name": word(place, "tool call"), "arguments": arguments}
    return {**call, "function": made} if "function" in call else made


def _leaves(value: Any, word: Callable[[], str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _leaves(item, word) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_leaves(item, word) for item in value]
    return word() if _texts(value) else value


def _schema_with_words(tool: Any, word: Callable[[int, str], str]) -> Any:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return tool
    made = {**function, "name": word(-1, "tool")}
    return {**tool, "function": made} if "function" in tool else made


def _matched(skeleton: Sequence[str], contents: Sequence[str], text: str) -> list[Span] | None:
    """Places of the contents: the text is the skeleton's pieces in turn, and between them the contents, perhaps
    trimmed. None if it is not; a content written twice keeps its last place, one not written (0, 0)."""
    if not text.startswith(skeleton[0]):
        return None
    at, spans = len(skeleton[0]), [(0, 0)] * len(contents)
    for k in range(1, len(skeleton), 2):
        number, piece, last = int(skeleton[k]), skeleton[k + 1], k + 2 == len(skeleton)
        content = contents[number]
        for said in (content, content.strip(), content.lstrip(), content.rstrip(), content.strip("\n")):
            end = at + len(said)
            fits = text.startswith(said, at) and text.startswith(piece, end)
            if fits and (not last or end + len(piece) == len(text)):
                break
        else:
            return None
        spans[number] = (at, end)
        at = end + len(piece)
    return spans if at == len(text) else None
