"""Every chat template: a row is refused with a reason, or what is scored is its answer and the token that closes it.

The other way to the same numbers is transformers' own `apply_chat_template`.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_templates import SPECIALS, TEMPLATES, tokenizer
from equipoise.data.collate import laid_out
from equipoise.data.errors import DataError
from equipoise.data.ledger import Ledger
from equipoise.data.place import place_of
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Candidate, Message, Record
from equipoise.data.rendering.render import Rendered, Renderer

REFUSED = {"adds words of its own"}  # no row can be proved
SCAFFOLDS = {
    "qwen 3": "<think>\n\n</think>\n\n",
    "channels": "<|channel|>final<|message|>",
}
HEADERS = {"no generation prompt": "<|assistant|>\n", "no generation prompt, words": " ASSISTANT:"}
HEADERS["opened only in part"] = "assistant\n"
SIGNS = st.sampled_from(
    [
        "a",
        "basil",
        " ",
        "\n",
        "é",
        "中",
        "สวัสดี",
        "🙂🏽",
        "7.",
        '"',
        "<b>",
        "{{",
        "  ",
        "|",
        "'",
        "\t",
        "Human:",
    ]
)
CONTENT = st.lists(SIGNS, min_size=1, max_size=9).map("".join).filter(str.strip)
DAY = "2026-02-03"


@st.composite
def conversations(draw: st.DrawFn) -> tuple[tuple[Message, ...], str, str]:
    """(context, two different answers)."""
    turns = [Message(role="system", content=draw(CONTENT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        turns += [
            Message(role="user", content=draw(CONTENT)),
            Message(role="assistant", content=draw(CONTENT)),
        ]
    turns.append(Message(role="user", content=draw(CONTENT)))
    return tuple(turns), draw(CONTENT), draw(CONTENT)


def rendered(renderer: Renderer, record: Record) -> tuple[Rendered | None, Ledger]:
    ledger = Ledger()
    ledger.use(record.place)
    data = Dataset(records=(record,), ledger=ledger, format="pair-chat", space="chat", kind=record.kind)
    try:
        return renderer.render(data)[0], ledger
    except DataError:
        return None, ledger


def pair(context: tuple[Message, ...], *answers: str, **fields: Any) -> Record:
    turns = [Candidate(content=(Message(role="assistant", content=text),)) for text in answers]
    return Record(context=context, candidates=tuple(turns), place=place_of("f", 1), **fields)


def given_to_generation(name: str, context: tuple[Message, ...]) -> list[int]:
    """What transformers makes of the context, and the header behind it where the template does not open the turn."""
    template, eos = TEMPLATES[name]
    made = tokenizer(template.replace("strftime_now('%d %b %Y')", "'03 Feb 2026'"), eos)
    turns = [turn.as_dict() for turn in context]
    text = made.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + HEADERS.get(name, "")
    return made(text, add_special_tokens=False)["input_ids"]


@pytest.mark.slow
@pytest.mark.parametrize("divergence", [False, True])
@pytest.mark.parametrize("name", list(TEMPLATES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=conversations())
def test_a_row_is_refused_or_proved(
    name: str, divergence: bool, row: tuple[tuple[Message, ...], str, str]
) -> None:
    context, *answers = row
    template, eos = TEMPLATES[name]
    tok = tokenizer(template, eos)
    renderer = Renderer(tok, max_length=4096, allow_template_divergence=divergence, template_date=DAY)
    found, ledger = rendered(renderer, pair(context, *answers))
    if found is None:
        assert list(ledger.refused.values()) == [1] and all(ledger.refused)
        return
    assert name not in REFUSED
    assert list(found.prompt_ids) == given_to_generation(name, context)
    specials = {tok.convert_tokens_to_ids(word) for word in SPECIALS}
    lead = SCAFFOLDS.get(name, "")
    for response, content in zip(found.responses, answers, strict=True):
        ids = list(response.ids)
        closed = ids[-1] in specials
        inside = tok.decode(ids[:-1] if closed else ids)
        assert closed != (name == "alpaca, nothing closes")
        assert (
            inside.strip() == (lead + content.strip()).strip() or inside.strip() == (lead + content).strip()
        )
        assert not {*ids[:-1]} & ({tok.eos_token_id} | set(renderer.turn_ends))
        assert response.finished and not response.between


@pytest.mark.parametrize("name", sorted(TEMPLATES.keys() - REFUSED))
def test_a_question_and_its_answers_are_used_with_every_template(name: str) -> None:
    template, eos = TEMPLATES[name]
    renderer = Renderer(tokenizer(template, eos), max_length=512, allow_template_divergence=True)
    found, ledger = rendered(
        renderer, pair((Message(role="user", content="Name a prime."),), "Two.", "Nine.")
    )
    assert found is not None, ledger


@pytest.mark.parametrize(
    ("name", "end"), [("chatml, EOS of a base model", "<|im_end|>"), ("gemma", "<end_of_turn>")]
)
def test_the_token_that_closes_a_turn_is_a_stop_and_a_note_says_so(name: str, end: str) -> None:
    template, eos = TEMPLATES[name]
    tok = tokenizer(template, eos)
    renderer = Renderer(tok, max_length=512)
    assert renderer.turn_ends == (tok.convert_tokens_to_ids(end),)
    _, ledger = rendered(renderer, pair((Message(role="user", content="Name a prime."),), "7", "8"))
    assert any(end in note and eos in note and "sampling stops" in note for note in ledger.notes)


def test_an_opener_is_no_end() -> None:
    """A template that closes nothing and opens the next turn always: its header token must not end an answer."""
    template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}{{ '<|assistant|>' }}"
    )
    renderer = Renderer(tokenizer(template), max_length=512)
    found, ledger = rendered(renderer, pair((Message(role="user", content="Name a prime."),), "7", "8"))
    assert found is not None and renderer.turn_ends == ()
    assert [renderer.codec.tokenizer.decode(ids) for ids in found.response_ids] == ["7", "8"]
    assert any("no special token closes an answer" in note for note in ledger.notes)


def test_the_end_of_a_turn_inside_an_answer_is_refused() -> None:
    template, eos = TEMPLATES["chatml"]
    renderer = Renderer(tokenizer(template, eos), max_length=512)
    record = pair((Message(role="user", content="Go."),), "yes<|im_end|>\n<|im_start|>user\nmore", "no")
    found, ledger = rendered(renderer, record)
    assert found is None and ledger.refused == {"the answer holds a token that ends it": 1}


def test_several_turns_of_an_answer_are_scored_and_what_lies_between_is_read() -> None:
    template, eos = TEMPLATES["tools"]
    renderer = Renderer(tokenizer(template, eos), max_length=1024)
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    schema = {
        "type": "function",
        "function": {"name": "weather", "description": "of a city", "parameters": {}},
    }
    turns = (
        Message(role="assistant", content="", extra={"tool_calls": [call]}),
        Message(role="tool", content="9"),
        Message(role="assistant", content="Nine degrees."),
    )
    record = Record(
        context=(Message(role="user", content="Weather?"),),
        candidates=(Candidate(content=turns), Candidate(content=turns[2:])),
        tools=(schema,),
        place=place_of("f", 1),
    )
    found, ledger = rendered(renderer, record)
    assert found is not None, ledger
    whole, scored = laid_out(found.responses[0])
    said = "".join(text for text, counts in renderer.pieces(found)[1][1] if counts)
    read = "".join(text for text, counts in renderer.pieces(found)[1][1] if not counts)
    call_text = '\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'
    assert said == call_text + "Nine degrees.<|im_end|>"
    assert read == "\n<|im_start|>tool\n9<|im_end|>\n<|im_start|>assistant\n"
    rendering = renderer.codec.tokenizer.apply_chat_template(
        [turn.as_dict() for turn in (*record.context, *turns)],
        tools=[schema],
        tokenize=True,
        return_dict=True,
    )["input_ids"]
    assert list(found.prompt_ids + whole) == rendering[: len(found.prompt_ids) + len(whole)]
    assert len(scored) == len(whole) and sum(scored) == len(found.response_ids[0])
    assert found.responses[0].text.startswith('{"name": "weather"')


def test_several_turns_that_the_template_rewrites_are_refused() -> None:
    template, eos = TEMPLATES["qwen 3"]
    renderer = Renderer(tokenizer(template, eos), max_length=1024, allow_template_divergence=True)
    turns = (
        Message(role="assistant", content="<think>\nhm\n</think>\n\nWhich?"),
        Message(role="user", content="Oslo."),
        Message(role="assistant", content="Nine."),
    )
    record = Record(
        context=(Message(role="user", content="Weather?"),),
        candidates=(Candidate(content=turns),),
        place=place_of("f", 1),
        kind="demonstration",
    )
    found, ledger = rendered(renderer, record)
    assert found is None
    assert ledger.refused == {"the template drops the reasoning of the answer": 1}
