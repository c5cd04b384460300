"""Formats of a run's own stored rounds (`rounds/NNN/judging.parquet`): what was sampled and how it was judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.formats.annotations import answer_attributes, with_attributes
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.layouts.ranked import list_of, numbers_of
from equipoise.data.formats.parse_values import Reading, messages_of, text_of
from equipoise.data.records import Candidate, Context, Kind, Message, Space

_COLUMNS = ("context", "responses", "prompt_ids", "prob", "reward")
_ASIDE = ("prompt_ids", "prompt", "prob", "reward")  # read elsewhere, or rendered again


def round_pair(row: RawRow, reading: Reading) -> Fields:
    """Two sampled answers and `prob`, that the first beats the second."""
    context, answers = _sampled(row, reading)
    if answers[0] == answers[1]:
        raise Refusal("both answers are equal")
    candidates = with_attributes(
        [Candidate(content=answer) for answer in answers], answer_attributes(row, 2, (), reading)
    )
    finished = [bool(answer.get("finished", True)) for answer in row["responses"]]
    return {"context": context, "candidates": candidates, "extra": {"finished": finished}, **_settings(row)}


def round_list(row: RawRow, reading: Reading) -> Fields:
    """Two or more sampled answers with a `reward` each, high is best."""
    context, answers = _sampled(row, reading)
    return list_of(
        row, context, answers, numbers_of(row, "reward", len(answers), reading), reading
    ) | _settings(row)


def _settings(row: RawRow) -> Fields:
    """Template settings of the prompt, next to `tools` and `weight` under their usual names."""
    given = _said(row.get("template_kwargs"))
    return {"template_kwargs": given} if given else {}


def _sampled(row: RawRow, reading: Reading) -> tuple[Context, list[Context]]:
    said = _said(row["context"])
    for name in _ASIDE:
        row.get(name)  # read, so that it is neither kept nor reported as unused
    texts = [text_of(answer.get("text"), f"responses[{i}]") for i, answer in enumerate(row["responses"])]
    cut = sum(not answer.get("finished", True) for answer in row["responses"])
    if cut:
        reading.notes["answers that were cut when they were sampled are read as whole ones"] += cut
    if isinstance(said, str):
        return text_of(said, "context"), list(texts)
    return messages_of(said, "context"), [(Message(role="assistant", content=text),) for text in texts]


def _fits(kind: Kind, space: Space) -> Callable[[RawRow], bool]:
    def fits(row: RawRow) -> bool:
        answers = row.get("responses")
        if not isinstance(answers, list) or not all(isinstance(answer, Mapping) for answer in answers):
            return False
        paired = len(answers) == 2 and row.get("prob") is not None
        listed = (
            len(answers) > 1 and isinstance(row.get("reward"), list) and len(row["reward"]) == len(answers)
        )
        own: Kind | None = "pair" if paired else "scores" if listed else None
        return own == kind and _space(row.get("context")) == space

    return fits


def _space(context: Any) -> Space | None:
    try:
        said = _said(context)
    except ValueError:
        return None
    return "text" if isinstance(said, str) else "chat" if isinstance(said, list) else None


def _said(context: Any) -> Any:
    """A stored context: JSON of a string or of messages, which may already be read."""
    return json.loads(context) if isinstance(context, str) else context


def _formats(name: str, kind: Kind, parse: Callable[[RawRow, Reading], Fields]) -> list[Format]:
    spaces: tuple[Space, Space] = ("text", "chat")
    return [
        Format(f"round-{name}-{space}", kind, space, _COLUMNS, parse, _fits(kind, space)) for space in spaces
    ]


ROUNDS = (*_formats("pairs", "pair", round_pair), *_formats("lists", "scores", round_list))
