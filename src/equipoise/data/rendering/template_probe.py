"""Probes of a chat template at load: what it writes before and after an answer, and which parts it can show.

Distinctive words take the places of contents, so that what stands around them is the template's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.prompt_cut import common_prefix
from equipoise.data.records import Message
from equipoise.data.rendering.templates import ChatTemplate
from equipoise.data.rendering.tokens import Codec

QUESTION, ANSWER, SECOND, FINAL = "Quae1sitne", "Respon1sum", "Quae2sitne", "Respon2sum"
RULE, THOUGHT, TOOL, RESULT = "Reg1ula", "Cogita1tio", "instru1mentum", "Even1tum"
ASKED = Message(role="user", content=QUESTION)
ANSWERED = Message(role="assistant", content=ANSWER)
_SCHEMA = {
    "type": "function",
    "function": {
        "name": TOOL,
        "description": RULE,
        "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
    },
}
_CALL = {
    "id": "abcdefgh1",
    "type": "function",
    "function": {"name": TOOL, "arguments": {"x": THOUGHT}},
}
_DATES = date(1999, 12, 31), date(2033, 5, 17)


@dataclass(frozen=True)
class Probe:
    """What a chat template does, found with distinctive words.

    opens        whether it opens the answer's turn when it is asked to
    header       text that belongs behind every context, where the template does not open the answer's turn
    lead         text that it writes between the opened turn and an answer, such as an empty block of reasoning
    turn_end     id of the token with which it closes an answer; None if no special token does
    writes_date  whether the text depends on the day
    system, tools, calls, reasoning, thoughts, several
                 whether it writes system turns, tool schemas, tool calls, the field `reasoning_content` and
                 <think> parts of the last answer, and conversations of several questions
    refuses_system
                 whether it fails for a system turn
    """

    opens: bool
    header: str
    lead: str
    turn_end: int | None
    writes_date: bool
    system: bool
    refuses_system: bool
    tools: bool
    calls: bool
    reasoning: bool
    thoughts: bool
    several: bool

    def sentence(self) -> str:
        """What the template writes and what it does not, for the notes."""
        parts = {
            "system turns": self.system,
            "several questions": self.several,
            "tools": self.tools,
            "tool calls": self.calls,
            "reasoning_content": self.reasoning,
            "<think> parts": self.thoughts,
        }
        able, unable = ([name for name, does in parts.items() if does is wanted] for wanted in (True, False))
        said = f"the template writes {', '.join(able)}" if able else "the template writes plain turns"
        return said + (f"; it has no place for {', '.join(unable)}" if unable else "")


def probe(template: ChatTemplate, codec: Codec) -> Probe:
    """Probes a template. Raises DataError if it cannot render a question and its answer, or drops either.

    Where the template ignores `add_generation_prompt` and writes a header before an answer, `template.header` is set:
    from then on it belongs to every context.
    """
    try:
        opened, closed = template.context([ASKED]), template.whole([ASKED, ANSWERED])
        bare = template.context([ASKED], generation=False)
    except Refusal as refusal:
        raise DataError(str(refusal), hint="fix the template, or choose `template: plain`") from None
    if ANSWER not in closed or QUESTION not in opened:
        raise DataError(
            "the chat template drops the content of a turn",
            hint=f"a question and its answer give {closed[:500]!r}; fix it, or choose `template: plain`",
        )
    history = _tried(template, [ASKED, ANSWERED, Message(role="user", content=SECOND)])
    twice = _tried(
        template,
        [ASKED, ANSWERED, Message(role="user", content=SECOND), Message(role="assistant", content=FINAL)],
    )
    before, _, after = closed.partition(ANSWER)
    lead = before[len(opened) :] if before.startswith(opened) else ""
    header, lead = _header(lead, _lead_of_history(twice, QUESTION, bare), opens=opened != bare)
    template.header = header
    system = _tried(template, [Message(role="system", content=RULE), ASKED])
    thought = replace(ANSWERED, content=f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}")
    called = Message(role="assistant", content="", extra={"tool_calls": [_CALL]})
    result = Message(role="tool", content=RESULT, extra={"tool_call_id": _CALL["id"], "name": TOOL})
    return Probe(
        opens=opened != bare,
        header=header,
        lead=lead,
        turn_end=_turn_end(codec, before[before.find(QUESTION) :], after, history),
        writes_date=_writes_date(template),
        system=RULE in system,
        refuses_system=not system,
        tools=_holds(_tried(template, [ASKED], [_SCHEMA]), TOOL),
        calls=_holds(_tried(template, [ASKED, called, result], [_SCHEMA]), THOUGHT, RESULT),
        reasoning=_holds(
            _tried(template, [ASKED, replace(ANSWERED, extra={"reasoning_content": THOUGHT})]), THOUGHT
        ),
        thoughts=_holds(_tried(template, [ASKED, thought]), THOUGHT),
        several=_holds(twice, QUESTION, ANSWER, SECOND, FINAL),
    )


def _tried(template: ChatTemplate, turns: Sequence[Message], tools: Sequence[Any] = ()) -> str:
    """The turns rendered without a generation prompt; "" where the template fails."""
    try:
        return template.context(turns, tools, generation=False)
    except Refusal:
        return ""


def _holds(text: str, *words: str) -> bool:
    return all(word in text for word in words)


def _lead_of_history(twice: str, question: str, bare: str) -> str | None:
    """What stands before an answer that is not the last one; None where the template cannot show it.

    Only what follows the question's own closing counts, which is known from the question alone.
    """
    between = twice.partition(question)[2].partition(ANSWER)[0]
    closing = bare.partition(question)[2]
    return between[len(closing) :] if twice and between.startswith(closing) else None


def _header(lead: str, earlier: str | None, *, opens: bool) -> tuple[str, str]:
    """(header, lead): what belongs to the prompt, and what the policy writes itself.

    A template that opens the answer's turn leaves the rest to the policy, except the name of the role. One that does
    not open it writes the header in front of earlier answers too; only the last one may have more (reasoning).
    Spaces at the header's end belong to the answer's first word.
    """
    if not lead.strip():
        return "", lead
    if opens and "assistant" not in lead.lower():
        return "", lead
    shared = lead if earlier is None else lead[: common_prefix(lead, earlier)]
    header = (shared if shared.strip() else lead).rstrip(" ")
    return header, lead[len(header) :]


def _turn_end(codec: Codec, before: str, after: str, history: str) -> int | None:
    """The id of the first special token after an answer, unless it opens the next turn.

    It opens one if it stands before the answer too, is not EOS, and is not what follows an earlier answer as well.
    """
    tail = codec.ids(after)
    found = next((i for i in tail if i in codec.specials), None)
    if found is None or found == codec.eos or found not in codec.ids(before):
        return found
    later = codec.ids(history.partition(ANSWER)[2].partition(SECOND)[0])
    return found if found in tail[: common_prefix(tail, later)] else None


def _writes_date(template: ChatTemplate) -> bool:
    today, texts = template.date, []
    for day in _DATES:
        template.date = day
        texts.append([_tried(template, [ASKED]), _tried(template, [ASKED], [_SCHEMA])])
    template.date = today
    return texts[0] != texts[1] or any("strftime_now" in source for source in template.sources.values())
