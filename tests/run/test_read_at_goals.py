"""Scored pairs read at goals by other methods: SFT imitates either response at its own score, pair methods see both."""

from __future__ import annotations

import json

import pytest

from equipoise.methods.index import get
from equipoise.playground import load_model
from equipoise.run.config import ConfigError, resolve
from equipoise.run.gathering.goal_prompts import reads_goals
from equipoise.run.gathering.records import dataset_of
from equipoise.run.materials import gather
from equipoise.run.phases import configuration, phases_of

LEVELS = {"data.at_goals": True, "data.goal": "{goal}", "data.goal_levels": ["low", "high"]}
CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Why?"},
]


def scored(tmp_path, prompt: object = "Why?", **more: object):
    path = tmp_path / "scored.jsonl"
    rows = [
        {
            "prompt": prompt,
            "chosen": f"good {n}",
            "rejected": f"bad {n}",
            "score_chosen": 9,
            "score_rejected": 2,
        }
        for n in range(3)
    ]
    path.write_text("".join(json.dumps(row | more) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(method: str, tmp_path, path: str, **settings: object):
    config = resolve(method, {"model.path": "m", "data.path": [path]}, LEVELS | settings)
    return dataset_of(config, get(method), None, tmp_path)


def test_sft_imitates_each_response_at_its_own_goal(tmp_path):
    made = read("sft", tmp_path, scored(tmp_path))
    assert made.kind == "demonstration"
    found = {(record.context, record.candidates[0].text) for record in made.records}
    assert found == {
        (f"{goal}\n\nWhy?", f"{text} {n}")
        for n in range(3)
        for goal, text in (("high", "good"), ("low", "bad"))
    }


def test_earlier_turns_have_no_score_and_are_not_imitated(tmp_path):
    prompt = [*CHAT]
    path = tmp_path / "chat.jsonl"
    answers = {name: [*prompt, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    path.write_text(json.dumps(answers | {"score_chosen": 9, "score_rejected": 2}) + "\n", encoding="utf-8")
    made = read("sft", tmp_path, str(path))
    assert sorted(record.candidates[0].text for record in made.records) == ["chosen", "rejected"]


def test_a_pair_method_trains_on_both_copies(tmp_path):
    made = read("ipo", tmp_path, scored(tmp_path))
    assert made.kind == "pair" and len(made) == 6
    assert {record.context for record in made.records} == {"low\n\nWhy?", "high\n\nWhy?"}
    plain = read("ipo", tmp_path, scored(tmp_path), **{"data.at_goals": False})
    assert {record.context for record in plain.records} == {"Why?"} and len(plain) == 3


@pytest.mark.parametrize("method", ["nash_md", "kto", "odpo"])
def test_what_has_no_two_scores_to_be_read_at_is_refused(method):
    config = resolve(method, {"data.at_goals": True})
    with pytest.raises(
        ConfigError, match=r"data\.at_goals is for methods that train on pairs or demonstrations"
    ):
        reads_goals(config.data, get(method).needs)


def test_the_playgrounds_phase_imitates_at_goals_and_is_asked_for_the_best(tmp_path):
    config = resolve("reward_augmented", {"data.pairs": 40})
    (phase,) = phases_of(config)
    materials = gather(configuration(config, phase), tmp_path)
    assert materials.dataset.kind == "demonstration"
    low, best = config.data.goal_levels
    openings = {str(record.context).split("\n\n")[0] for record in materials.dataset.records}
    assert openings == {low, best}
    tokenizer = load_model()[1]
    assert all(prompt.ids[1] == tokenizer.get_vocab()[best] for prompt in materials.pool)


def test_the_playground_without_names_of_goals_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"read at goals by name: give data\.goal_levels"):
        gather(resolve("dpo", {"data.at_goals": True}), tmp_path)


def test_the_playgrounds_goals_are_words_that_its_model_tells_apart():
    """Words with one embedding, such as the two courtesies, are one goal to the model, and the copies cancel."""
    model, tokenizer = load_model()
    vectors, known = model.get_input_embeddings().weight.detach(), tokenizer.get_vocab()

    def apart(words):
        first, second = (vectors[known[word]] for word in words)
        return float((first - second).norm() / first.norm())

    assert apart(("Fine,", "Gladly,")) < 0.05
    assert apart(resolve("reward_augmented").data.goal_levels) > 0.5
