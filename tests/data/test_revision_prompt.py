"""The lead of an improved answer: what the policy reads between a prompt and the answer that improves another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from equipoise.data.collate import Prompt, Response, collate, row_length
from equipoise.data.errors import DataError
from equipoise.data.records import Candidate, Message, Record
from equipoise.data.rendering.render import Renderer
from equipoise.data.revision_prompt import INSTRUCTION, RevisionPrompt, both_roles

Maker = Callable[..., Any]
TURN = Message(role="user", content="Hello, who are you?")
ANSWER = Message(role="assistant", content="I am a small model.")
REQUEST = Message(role="user", content=INSTRUCTION)


def rendered(renderer: Renderer, context: Any, answer: Any) -> tuple[Prompt, Response]:
    """Prompt and response as a run has them."""
    candidate = Candidate(content=answer)
    opened = renderer.opened(context)
    answer = renderer.response(Record(context=context, candidates=(candidate,)), candidate, opened)
    return Prompt(opened.ids, context), Response(answer.ids, candidate.text)


def test_with_a_chat_template_it_is_a_further_turn_token_for_token(family: Maker, chatml: str) -> None:
    renderer = Renderer(family(bos=False, template=chatml, eos="<|end|>"), max_length=256)
    prompt, response = rendered(renderer, (TURN,), (ANSWER,))
    lead = RevisionPrompt(renderer, chat=True)(prompt, response)
    assert prompt.ids + lead == renderer.prompt((TURN, ANSWER, REQUEST))


def test_a_cut_answer_is_closed_by_the_template(makers: dict[str, Maker], chatml: str) -> None:
    renderer = Renderer(makers["byte-level"](bos=False, template=chatml, eos="<|end|>"), max_length=256)
    prompt, whole = rendered(renderer, (TURN,), (ANSWER,))
    cut = Response(whole.ids[:-1], whole.text, finished=False)
    revision = RevisionPrompt(renderer, chat=True)
    assert revision(prompt, cut) == revision(prompt, whole)
    assert revision(prompt, whole)[: len(whole.ids)] == whole.ids  # its own end of turn, once


def test_the_instruction_follows_a_plain_transcript_and_a_plain_text(family: Maker) -> None:
    tokenizer = family()
    renderer = Renderer(tokenizer, template="plain", max_length=256)
    prompt, response = rendered(renderer, (TURN,), (ANSWER,))
    ids = prompt.ids + RevisionPrompt(renderer, chat=True)(prompt, response)
    assert tokenizer.eos_token_id not in ids
    shown = renderer.codec.text(ids).replace("\n", " ").split()
    transcript = f"Human: {TURN.content} Assistant: {ANSWER.content} Human: {INSTRUCTION} Assistant:"
    assert shown == words(renderer, transcript)

    prompt, response = rendered(renderer, "The sky is", " grey.")
    ids = prompt.ids + RevisionPrompt(renderer, chat=False, instruction="Say no.")(prompt, response)
    assert tokenizer.eos_token_id not in ids
    assert renderer.codec.text(ids).split() == words(renderer, "The sky is grey. \n\nSay no.\n")


def words(renderer: Renderer, text: str) -> list[str]:
    """The words of a text as this tokenizer spells them (some know few letters)."""
    return renderer.codec.text(renderer.codec.ids(text)).replace("\n", " ").split()


def test_the_earlier_answer_keeps_the_tokens_it_was_sampled_with(
    makers: dict[str, Maker], chatml: str
) -> None:
    renderer = Renderer(makers["byte-level"](bos=False, template=chatml, eos="<|end|>"), max_length=256)
    codec = renderer.codec
    spelled = tuple(i for letter in "I am" for i in codec.ids(letter))  # another way to cut the same text
    assert spelled != tuple(codec.ids("I am"))
    lead = RevisionPrompt(renderer, chat=True)(Prompt((1,), ""), Response((*spelled, codec.eos), "I am"))
    assert lead[: len(spelled) + 1] == (*spelled, codec.eos)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content }}{% if messages|length > 1 %}<|turn|>{{ messages[1].content }}{% endif %}<|end|>",
        "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.content }}<|end|>{% endif %}{% endfor %}",
    ],
)
def test_a_template_without_room_for_the_request_is_refused(makers: dict[str, Maker], template: str) -> None:
    renderer = Renderer(makers["byte-level"](template=template), max_length=64)
    with pytest.raises(DataError, match="request to improve"):
        RevisionPrompt(renderer, chat=True)


def test_without_an_instruction_the_text_is_asked_once_more(family: Maker) -> None:
    renderer = Renderer(family(), max_length=256)
    prompt, response = rendered(renderer, "The sky is", " grey.")
    lead = RevisionPrompt(renderer, chat=False, instruction=None)(prompt, response)
    assert prompt.ids[0] == renderer.codec.bos
    said, asked = response.ids[:-1], prompt.ids[1:]  # without EOS, and one BOS is enough
    assert lead == (*said, *renderer.codec.continuation("\n\n"), *asked)


@pytest.mark.parametrize("chat, instruction", [(False, " "), (True, ""), (True, None)])
def test_no_instruction_is_refused(makers: dict[str, Maker], chat: bool, instruction: str | None) -> None:
    with pytest.raises(DataError, match="instruction"):
        RevisionPrompt(Renderer(makers["byte-level"](), max_length=64), chat=chat, instruction=instruction)


def test_both_roles_of_a_pair_by_hand() -> None:
    won, lost = Response((8, 2), "w", logp=-1.0), Response((9, 10, 2), "l", logp=-2.0)
    columns = both_roles(Prompt((1, 5), ""), won, lost, lambda prompt, previous: (*previous.ids[:-1], 50))
    assert [r.ids for r in columns] == [(8, 2), (9, 10, 2), (8, 2), (9, 10, 2), (8, 2), (9, 10, 2)]
    assert [r.lead for r in columns] == [(), (), (9, 10, 50), (8, 50), (8, 50), (9, 10, 50)]
    assert [r.logp for r in columns] == [-1.0, -2.0, None, None, None, None]
    assert won != columns[4]  # the same answer elsewhere is another response


def test_a_lead_is_read_and_not_scored() -> None:
    response = Response((8, 2), "", lead=(6, 7))
    batch = collate([(1, 5)], [[response, (9,)]], pad=0)
    assert batch.ids.tolist() == [[1, 5, 6, 7, 8, 2], [1, 5, 9, 0, 0, 0]]
    assert batch.attention.tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert batch.scored.int().tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0]]
    assert [row_length((1, 5), r) for r in (response, (9,))] == [6, 3]
    plain = collate([(1, 5, 6, 7)], [[(8, 2)]], pad=0)
    assert torch.equal(batch.ids[:1], plain.ids) and torch.equal(batch.scored[:1], plain.scored)
    with pytest.raises(ValueError, match="one response token"):
        collate([(1,)], [[Response((), "", lead=(3,))]], pad=0)
