"""Formats of unpaired feedback: one answer and a label, desirable or undesirable (KTO and its relatives).

To add one, write its parser and one entry of UNPAIRED.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.formats.answers import chat_answer, chat_prompt, check_answer, without_context
from equipoise.data.formats.asked import asked_turns, is_texts
from equipoise.data.formats.columns import all_text, shapes, some_chat
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.parse_values import Reading, label_of, messages_of, text_of
from equipoise.data.records import Candidate, Context, Message, Space, digest, plain


def _labelled(context: Context, answer: Context, desirable: bool) -> Fields:
    return {"context": context, "candidates": (Candidate(content=answer),), "desirable": desirable}


def unpaired_text(row: RawRow, reading: Reading) -> Fields:
    """`prompt`, `completion`, `label`: two strings, and whether the answer is desirable."""
    completion = text_of(row.get("completion"), "completion")
    return _labelled(text_of(row.get("prompt"), "prompt"), completion, label_of(_tag(row)))


def unpaired_chat(row: RawRow, reading: Reading) -> Fields:
    """The same columns with messages in at least one; strings are wrapped as turns."""
    context = chat_prompt(row.get("prompt"), reading)
    answer = without_context(chat_answer(row.get("completion"), "completion", reading), context, "completion")
    check_answer(answer, "completion")
    return _labelled(context, answer, label_of(_tag(row)))


def unpaired_messages(row: RawRow, reading: Reading) -> Fields:
    """`messages` (or `conversations`) that end with the answer, and `label` (or `kto_tag`): LLaMA-Factory's KTO."""
    name = "messages" if "messages" in row else "conversations"
    turns = messages_of(row.get(name), name)
    if turns[-1].role != "assistant":
        raise Refusal("last turn is not the assistant's", f"{name} ends with {turns[-1].role}")
    if len(turns) == 1:
        raise Refusal("no turn to answer")
    check_answer(turns[-1:], name)
    return _labelled(turns[:-1], turns[-1:], label_of(_tag(row)))


def unpaired_alpaca(row: RawRow, reading: Reading) -> Fields:
    """`instruction`, `output` and `label` (or `kto_tag`), perhaps `input`, `system`, `history`: LLaMA-Factory's KTO."""
    context = asked_turns(row, reading)
    answer = chat_answer(text_of(row.get("output"), "output"), "output", reading)
    return _labelled(context, answer, label_of(_tag(row)))


def unpaired_halos(row: RawRow, reading: Reading) -> Fields:
    """`prompt`, `output`, `label` with the `type` "binary_feedback": HALOs. Rows of another type are refused."""
    if row.get("type") != "binary_feedback":
        raise Refusal("type is not binary_feedback", repr(row.get("type")))
    desirable, output = label_of(row.get("label")), row.get("output")
    if isinstance(row.get("prompt"), str) and isinstance(output, str):
        text = text_of(output, "output")
        return _labelled(text_of(row.get("prompt"), "prompt"), text, desirable)
    answer = chat_answer(output, "output", reading)
    check_answer(answer, "output")
    return _labelled(chat_prompt(row.get("prompt"), reading), answer, desirable)


def unpaired_steps(row: RawRow, reading: Reading) -> list[Fields]:
    """`prompt`, `completions`, `labels`: steps of one solution (process supervision), and whether each is right.

    Each step is an answer after the prompt and the steps before it, on a new line; all stay in the prompt's group.
    """
    steps, labels = row["completions"], row["labels"]
    if len(steps) != len(labels):
        raise Refusal(f"{len(steps)} steps with {len(labels)} labels")
    texts = [f"\n{text_of(step, f'completions[{i}]').strip()}" for i, step in enumerate(steps)]
    prompt = row["prompt"]
    if isinstance(prompt, str) and not reading.wrap:
        start: Context = text_of(prompt, "prompt").rstrip()
    else:
        start = chat_prompt(prompt, reading)
    group = digest(plain(start))
    return [
        {**_labelled(*_step(start, texts, i), label_of(label)), "group": group}
        for i, label in enumerate(labels)
    ]


def _step(start: Context, texts: Sequence[str], place: int) -> tuple[Context, Context]:
    """(what comes before a step, the step); in chat the earlier steps are an answer that the step continues."""
    before = "".join(texts[:place])
    if isinstance(start, str):
        return start + before, texts[place]
    earlier = (Message(role="assistant", content=before.lstrip()),) if place else ()
    own = texts[place] if place else texts[place].lstrip()
    return (*start, *earlier), (Message(role="assistant", content=own),)


def _is_steps(space: Space) -> Callable[[RawRow], bool]:
    def fits(row: RawRow) -> bool:
        lists = [row.get("completions"), row.get("labels")]
        return shapes(row, "prompt") == (space,) and is_texts(lists[0]) and isinstance(lists[1], list)

    return fits


def _tag(row: RawRow) -> Any:
    return row.get("label", row.get("kto_tag"))


def _has_tag(row: RawRow) -> bool:
    return "label" in row or "kto_tag" in row


def _is_tagged_chat(name: str) -> Callable[[RawRow], bool]:
    return lambda row: _has_tag(row) and shapes(row, name) == ("chat",)


def _is_alpaca(row: RawRow) -> bool:
    return _has_tag(row) and all_text("instruction", "output")(row)


def _is_halos(space: Space) -> Callable[[RawRow], bool]:
    return lambda row: "type" in row and shapes(row, "prompt") == (space,)


_SINGLE = ("prompt", "completion", "label|kto_tag")
_STEPS = ("prompt", "completions", "labels")
_PAIRED = frozenset({"rejected_response", "rejected_messages", "chosen", "rejected"})
_HALOS = ("type", "prompt", "output", "label")


def _conversation(name: str) -> Format:
    """LLaMA-Factory's layout with the conversation in this column."""
    fits = _is_tagged_chat(name)
    return Format(f"unpaired-{name}", "unpaired", "chat", (name,), unpaired_messages, fits, _PAIRED)


UNPAIRED = (
    Format("unpaired-text", "unpaired", "text", _SINGLE, unpaired_text, all_text(*_SINGLE[:2])),
    Format("unpaired-chat", "unpaired", "chat", _SINGLE, unpaired_chat, some_chat(*_SINGLE[:2])),
    _conversation("messages"),
    _conversation("conversations"),
    Format("unpaired-alpaca", "unpaired", "chat", ("instruction", "output"), unpaired_alpaca, _is_alpaca),
    Format("unpaired-halos", "unpaired", "text", _HALOS, unpaired_halos, _is_halos("text")),
    Format("unpaired-halos-chat", "unpaired", "chat", _HALOS, unpaired_halos, _is_halos("chat")),
    Format("stepwise", "unpaired", "text", _STEPS, unpaired_steps, _is_steps("text")),
    Format("stepwise-chat", "unpaired", "chat", _STEPS, unpaired_steps, _is_steps("chat")),
)
