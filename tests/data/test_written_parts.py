"""Every part of a row stands in its rendering, or the row is refused or counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chat_templates import CHATML, QWEN3, R1, TEMPLATES, TOOLS, tokenizer
from equipoise.data.errors import DataError
from equipoise.data.ledger import Ledger
from equipoise.data.place import place_of
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Candidate, Message, Record
from equipoise.data.rendering.render import Renderer

ASKED = Message(role="user", content="Weather in Oslo?")
SCHEMA = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
}
CALLED = Message(
    role="assistant",
    content="",
    extra={
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    },
)
ROLES = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>' + m.content + '<|end|>' }}"
    "{% elif m.role == 'assistant' %}{{ '<|assistant|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def said(text: str, **extra: Any) -> Candidate:
    return Candidate(content=(Message(role="assistant", content=text, extra=extra),))


def record(*context: Message, **fields: Any) -> Record:
    given: dict[str, Any] = {"candidates": (said("Nine degrees."), said("No idea.")), **fields}
    return Record(context=context or (ASKED,), place=place_of("f", 1), **given)


def refused(
    template: str | None, row: Record, eos: str = "<|im_end|>", **settings: Any
) -> tuple[dict[str, int], list[str]]:
    """(reasons, notes) of one row."""
    ledger = Ledger()
    ledger.use(row.place)
    data = Dataset(records=(row,), ledger=ledger, format="pair-chat", space="chat", kind=row.kind)
    renderer = Renderer(tokenizer(template, eos), max_length=2048, **settings)
    try:
        renderer.render(data)
    except DataError as error:
        assert "no row is left" in str(error)
    return ledger.refused, ledger.notes


@pytest.mark.parametrize("role", ["User", "customer", "tool", "system"])
def test_a_turn_whose_role_the_template_does_not_know_is_missed(role: str) -> None:
    row = record(Message(role=role, content="9"), Message(role="user", content="9 and 10?"))
    assert refused(ROLES, row, "<|end|>")[0] == {"the template drops the content of a turn": 1}


def test_tools_are_looked_for_by_a_word_that_stands_nowhere_else() -> None:
    """The tool is called "f", a letter that every rendering holds."""
    assert refused(CHATML, record(tools=(SCHEMA,)))[0] == {"the template drops a tool": 1}
    assert refused(TOOLS, record(tools=(SCHEMA,)))[0] == {}


def test_tool_calls_are_looked_for_in_context_and_answer() -> None:
    context = (ASKED, CALLED, Message(role="tool", content="9"))
    assert refused(TOOLS, record(*context, tools=(SCHEMA,)))[0] == {}
    assert refused(CHATML, record(*context))[0] == {"the template drops a tool call": 1}
    answer = (Candidate(content=(CALLED,)), said("No idea."))
    assert refused(TOOLS, record(candidates=answer))[0] == {}
    assert refused(CHATML, record(candidates=answer))[0] == {"the template drops a tool call": 1}


def test_half_of_a_tool_call_is_missed_too() -> None:
    names = TOOLS.replace("call.function.arguments | tojson", "'{}'")
    assert refused(names, record(ASKED, CALLED, replace(ASKED, role="tool")))[0] == {
        "the template drops a tool call": 1
    }


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_in_its_own_field_is_scored_or_refused(field: str) -> None:
    row = record(candidates=(said("Nine.", **{field: "Look outside."}), said("No.", **{field: "Guess."})))
    assert refused(QWEN3, row)[0] == {}
    reasons, _ = refused(CHATML, row)
    assert reasons == {"the template drops the reasoning of the answer": 1}
    reasons, notes = refused(CHATML, row, reasoning="drop")
    assert reasons == {}
    assert "1 rows: the template drops the reasoning of the answer (reasoning: drop)" in notes


def test_reasoning_that_the_template_cuts_out_of_the_answer_is_refused() -> None:
    row = record(candidates=(said("<think>\nHm.\n</think>\n\nNine."), said("No.")))
    assert refused(R1, row, "</s>")[0] == {"the template drops the reasoning of the answer": 1}
    assert refused(R1, row, "</s>", reasoning="drop")[0] == {}
    assert refused(QWEN3, row)[0] == {}


def test_reasoning_of_earlier_turns_may_go_and_is_counted() -> None:
    earlier = Message(role="assistant", content="<think>\nWhere is that?\n</think>\n\nIn Norway.")
    reasons, notes = refused(QWEN3, record(ASKED, earlier, ASKED))
    assert reasons == {}
    assert "1 rows: the template drops the reasoning of earlier turns" in notes


def test_a_system_turn_is_merged_where_the_template_has_no_place_for_it() -> None:
    template, eos = TEMPLATES["gemma"]
    row = record(Message(role="system", content="Be brief."), ASKED)
    assert refused(template, row, eos)[0] == {"the chat template fails": 1}
    reasons, notes = refused(template, row, eos, system_turn="merge")
    assert reasons == {} and any(note.startswith("1 rows: the system turn is put in front") for note in notes)
    renderer = Renderer(tokenizer(template, eos), max_length=99, system_turn="merge")
    merged = Message(role="user", content="Be brief.\n\nWeather in Oslo?")
    assert renderer.prompt(row.context) == renderer.prompt((merged,))
    kept = Renderer(tokenizer(CHATML, "<|im_end|>"), max_length=99, system_turn="merge")
    assert "system" in kept.codec.tokenizer.decode(kept.prompt(row.context))


def test_the_notes_say_what_the_template_can_show() -> None:
    _, notes = refused(QWEN3, record())
    assert any("tools, tool calls, reasoning_content, <think> parts" in note for note in notes)
    _, notes = refused(CHATML, record())
    assert any("no place for tools, tool calls, reasoning_content" in note for note in notes)


def test_the_plain_transcript_refuses_what_it_has_no_place_for() -> None:
    for row, reason in (
        (record(tools=(SCHEMA,)), "tools need a chat template"),
        (record(ASKED, CALLED, ASKED), "tool calls need a chat template"),
        (
            record(candidates=(said("a", reasoning="b"), said("c"))),
            "a field of reasoning needs a chat template",
        ),
        (record(Message(role="user\n\nHuman", content="x")), "a role is not a word"),
    ):
        assert refused(None, row)[0] == {reason: 1}


def test_a_row_may_not_replace_the_templates_own_words() -> None:
    for name in ("eos_token", "messages", "strftime_now"):
        row = record(template_kwargs={name: "x"})
        assert refused(CHATML, row)[0] == {"chat_template_kwargs may not set this": 1}


def test_settings_of_the_run_reach_every_row_and_a_rows_own_win() -> None:
    renderer = Renderer(
        tokenizer(QWEN3, "<|im_end|>"), max_length=99, chat_template_kwargs={"enable_thinking": False}
    )
    decode = renderer.codec.tokenizer.decode
    assert decode(renderer.prompt((ASKED,))).endswith("<think>\n\n</think>\n\n")
    assert decode(renderer.prompt((ASKED,), template_kwargs={"enable_thinking": True})).endswith(
        "assistant\n"
    )


def test_the_date_is_noticed_fixed_and_part_of_the_fingerprint() -> None:
    template, eos = TEMPLATES["llama 3 with the date"]
    first, second = (
        Renderer(tokenizer(template, eos), max_length=99, template_date=day)
        for day in ("2026-02-03", "2026-02-04")
    )
    assert "03 Feb 2026" in first.codec.tokenizer.decode(first.prompt((ASKED,)))
    assert str(first.date) == "2026-02-03" and first.fingerprint != second.fingerprint
    undated, other = (
        Renderer(tokenizer(CHATML, "<|im_end|>"), max_length=99, template_date=day)
        for day in ("2026-02-03", "2026-02-04")
    )
    assert undated.date is None and undated.fingerprint == other.fingerprint
    assert undated.fingerprint != Renderer(tokenizer(QWEN3, "<|im_end|>"), max_length=99).fingerprint
    with pytest.raises(DataError, match="is no day"):
        Renderer(tokenizer(template, eos), max_length=99, template_date="tomorrow")


def test_a_template_that_reorders_the_turns_is_refused() -> None:
    turned = (
        "{% set said = messages[-1] if messages[-1].role == 'assistant' else none %}"
        "{% for m in (messages[:-1] if said else messages) | reverse %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if said %}{{ '<|im_start|>assistant\n' + said.content + '<|im_end|>\n' }}"
        "{% elif add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    turns = (ASKED, Message(role="assistant", content="Which day?"), Message(role="user", content="Today."))
    assert refused(turned, record(*turns))[0] == {"the template writes turns in another order": 1}
    assert refused(CHATML, record(*turns))[0] == {}
