"""Records of plain strings as chat turns, and the system prompt in front of a conversation."""

from __future__ import annotations

from dataclasses import replace

from equipoise.data.errors import Refusal
from equipoise.data.formats.asked import SYSTEM, conversation
from equipoise.data.formats.format import Fields, RawRow
from equipoise.data.formats.parse_values import Reading, text_of
from equipoise.data.records import Candidate, Message


def as_chat(fields: Fields, reading: Reading) -> Fields:
    """The fields with strings as turns: the prompt the user's, an answer the assistant's, without leading space.

    In plain text the space between prompt and answer belongs to the answer; a template writes its own.
    """
    context = fields["context"]
    if not isinstance(context, str):
        return fields
    answers = [_turn(candidate) for candidate in fields.get("candidates", ())]
    if len({answer.content for answer in answers}) < len(answers):
        raise Refusal("the answers are equal as chat turns")
    return {**fields, "context": conversation(context, "prompt", reading), "candidates": tuple(answers)}


def _turn(candidate: Candidate) -> Candidate:
    text = candidate.content
    return replace(candidate, content=(Message(role="assistant", content=str(text).lstrip()),))


def with_system(fields: Fields, row: RawRow, reading: Reading) -> Fields:
    """The fields with the row's system prompt, else that of the settings, in front of the conversation.

    Refuses a row whose column contradicts the system turn that its conversation has.
    """
    turns = fields["context"]
    name = next((name for name in SYSTEM if row.get(name) not in (None, "")), None)
    own = text_of(row[name], name, may_be_empty=True) if name else ""
    has_turn = turns[0].role == "system"
    if own.strip() and has_turn and turns[0].content.strip() != own.strip():
        raise Refusal("two system prompts", f"`{name}` and the conversation's own differ")
    text = own if own.strip() else reading.system
    if has_turn or not text:
        return fields
    return {**fields, "context": (Message(role="system", content=text), *turns)}
