"""Chains of arithmetic: solutions, their answers, and what the rule accepts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from equipoise.data.reading.read import read
from equipoise.playground.chains import answer_of, correct, prompt_of, right_steps, solution, train

PROMPT = "3 + 4 - 3 + 4 ="
RIGHT = "3 + 4 = 2 ; 2 - 3 = 4 ; 4 + 4 = 3 ; answer 3"


def test_a_chain_by_hand():
    assert answer_of(PROMPT) == 3
    assert solution(PROMPT, random.Random(0)) == RIGHT
    assert correct(PROMPT, RIGHT) == 1
    assert right_steps(PROMPT, RIGHT) == 1


@pytest.mark.parametrize("response", ["", "answer 4", "answer 3 ;", "3", RIGHT.replace("answer", "")])
def test_what_does_not_end_with_the_answer_is_wrong(response: str):
    assert correct(PROMPT, response) == 0


def test_steps_count_up_to_the_first_wrong_one():
    assert right_steps(PROMPT, RIGHT.replace("2 - 3 = 4", "2 - 3 = 0")) == pytest.approx(1 / 3)
    assert right_steps(PROMPT, "") == 0


def test_wrong_steps_are_as_frequent_as_asked():
    rng = random.Random(1)
    prompts = [prompt_of(rng) for _ in range(400)]
    first = [solution(p, rng, 0.25).split(";")[0] == solution(p, rng).split(";")[0] for p in prompts]
    assert sum(first) / 400 == pytest.approx(0.75, abs=0.07)  # three standard deviations


def test_the_folder_is_a_model_and_prompts(tmp_path: Path):
    train(tmp_path, steps=2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert len(tokenizer(RIGHT, add_special_tokens=False)["input_ids"]) == len(RIGHT.split())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.vocab_size == len(tokenizer)
    assert read(tmp_path / "prompts.jsonl", format="auto").kind == "prompt"
