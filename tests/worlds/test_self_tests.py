"""Self-written code and tests in the text world: prompts by a template, joined answers, the log of pass tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chat_templates import CHATML, tokenizer
from equipoise.data.collate import Prompt, Response
from equipoise.data.errors import DataError
from equipoise.data.records import Conversation
from equipoise.data.rendering.render import Renderer
from equipoise.oracles.code.self_written import PassTable
from equipoise.play.rows import Rows, objects
from equipoise.play.seeds import Seeds
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.self_tests import SelfTests, asked_by


def rows_of(prompts: list[Prompt], texts: list[list[str]]) -> Rows:
    responses = [[Response((1,), text) for text in group] for group in texts]
    return Rows(
        prompts=objects(prompts),
        responses=objects(responses, width=len(texts[0])),
        weight=np.ones(len(prompts)),
        writers=("code",) * len(texts[0]),
    )


def bench(renderer: Renderer) -> SelfTests:
    def run(problems: object) -> list[PassTable]:
        return [
            PassTable(
                np.array([[True, False], [False, False]]), np.array([True, False]), np.array([True, True])
            )
            for _ in problems  # type: ignore[attr-defined]
        ]

    return SelfTests(renderer=renderer, run=run)


def test_a_text_prompt_stands_in_the_templates_place(renderer: Renderer, prompts: list[Prompt]):
    asked = asked_by(renderer, prompts[0], "On a {prompt} {prompt}")
    text = f"On a {prompts[0].context} {prompts[0].context}"
    assert asked.context == text and asked.ids == renderer.prompt(text)
    assert asked_by(renderer, prompts[0], "{prompt}") is prompts[0]


def test_rows_are_asked_without_their_responses(renderer: Renderer, prompts: list[Prompt]):
    rows = rows_of(prompts[:2], [["a", "b"], ["c", "d"]])
    asked = bench(renderer).asked(rows, "{prompt} tea.")
    assert asked.responses.shape == (2, 0) and asked.writers == ()
    assert [p.context for p in asked.prompts] == [f"{p.context} tea." for p in prompts[:2]]


def test_a_prompt_that_leaves_no_room_is_refused(renderer: Renderer, prompts: list[Prompt]):
    with pytest.raises(DataError, match=r"leaves no room for a response within 64\n.*data\.max_length"):
        bench(renderer).asked(rows_of(prompts[:1], [["a"]]), "{prompt} " + "tea. " * 80)


def test_code_and_test_are_the_last_blocks_of_what_was_written(renderer: Renderer, prompts: list[Prompt]):
    """Nothing in a code is taken for a place of the form."""
    rows = rows_of(
        prompts[:1], [["Here:\n```python\nx = '{test}'\n```\nDone.", "y = 1", "```\nassert y\n```"]]
    )
    made = bench(renderer).concatenated(rows, np.array([0]), np.array([2]), "{code} # {test}")
    assert made[0].text == "x = '{test}' # assert y"
    expected = renderer.answer(prompts[0], "x = '{test}' # assert y")
    assert made[0].ids == expected.ids and made[0].ids[-1] == renderer.codec.eos


def test_a_text_that_ends_an_answer_is_none(renderer: Renderer, prompts: list[Prompt]):
    rows = rows_of(prompts[:2], [["x </s> y", "z"], ["x", "z"]])
    made = bench(renderer).concatenated(rows, np.zeros(2, int), np.ones(2, int), "{code} {test}")
    assert made[0] is None and made[1].text == "x z"


def test_the_tables_of_a_round_are_logged_once(renderer: Renderer, prompts: list[Prompt], tmp_path: Path):
    folder, rows = (
        RunFolder(journal=Journal(tmp_path), seeds=Seeds(0)),
        rows_of(prompts[:2], [["a", "b", "c", "d"]] * 2),
    )
    for round in (1, 2, 2):  # the second round's stage was interrupted and is repeated
        tables = bench(renderer).pass_tables(folder, round, rows, 2)
    assert tables.passed.shape == (2, 2, 2) and tables.read.tolist() == [[True, True]] * 2
    lines = [json.loads(line) for line in (tmp_path / "self_tests.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 1, 2, 2]
    assert lines[0]["passed"] == [[1, 0], [0, 0]]
    assert (lines[0]["codes_read"], lines[0]["tests_read"]) == (1, 2) and lines[0]["prompt"] == prompts[
        0
    ].text


def test_the_last_user_turn_of_a_conversation_is_asked_and_the_rest_stays():
    renderer = Renderer(tokenizer(CHATML), max_length=256)
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    prompt = Prompt(renderer.prompt(turns), Conversation(turns, (), {"k": 1}), "")
    asked = asked_by(renderer, prompt, "Test: {prompt}!")
    assert [turn["content"] for turn in asked.context] == ["Be brief.", "One?", "Two.", "Test: Three?!"]
    assert asked.context.template_kwargs == {"k": 1} and prompt.context[-1]["content"] == "Three?"
    assert asked.ids == renderer.prompt(list(asked.context), template_kwargs={"k": 1})
    assert replace(prompt, context=turns) and tools
