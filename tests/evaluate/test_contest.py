"""Answers and contests: files of every layout, one key for one prompt, win rates by hand, failures in the open."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from equipoise.data.errors import DataError
from equipoise.data.reading.read import read
from equipoise.evaluate import diversity
from equipoise.evaluate.answers import Answer, gather, key_of, questions_of, read_answers, write_answers
from equipoise.evaluate.contest import contest, rewards
from equipoise.evaluate.population import battles_of, population
from equipoise.oracles.checked import Checked
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.rules.rule_oracle import RuleOracle

CHAT = [{"role": "user", "content": "Name a colour."}]


def answers(name, by):
    return gather(name, ((key_of(p), p, Answer(text)) for p, texts in by.items() for text in texts))


def rule(function):
    return Checked(Asking(RuleOracle(function, "mine")))


longer = rule(lambda prompt, a, b: float(len(a) > len(b)) + 0.5 * (len(a) == len(b)))


def test_a_text_and_a_chat_of_one_turn_are_one_prompt():
    assert key_of("Name a colour.") == key_of(CHAT)
    assert key_of(CHAT) != key_of([{"role": "system", "content": "Be brief."}, *CHAT])
    assert key_of(CHAT) != key_of([{"role": "assistant", "content": "Name a colour."}])


@pytest.mark.parametrize("prompt", ["Once", CHAT, [{"role": "system", "content": "Brief."}, *CHAT]])
def test_our_answers_survive_writing_and_are_data_for_training(tmp_path, prompt):
    made = gather("m", ((key_of(prompt), prompt, Answer(t, True, 3, -1.5)) for t in ("red", "blue", "red")))
    path = write_answers(tmp_path / "a.jsonl", made)
    assert read_answers(path) == made
    dataset = read(path)
    assert dataset.kind == "demonstration"
    assert [r.candidates[0].text for r in dataset.records] == ["red", "blue"]  # equal rows once


def test_token_ids_are_written_where_they_are_asked_for(tmp_path):
    made = gather("m", [(key_of("p"), "p", Answer("x", True, 2, -1.0, (4, 5), (1, 2)))])
    assert read_answers(write_answers(tmp_path / "a.jsonl", made, ids=True)) == made
    (bare,) = read_answers(write_answers(tmp_path / "b.jsonl", made)).by[key_of("p")]
    assert bare.ids is None and bare.tokens == 2


def test_alpaca_eval_outputs(tmp_path):
    made = answers("m", {"task one": ["x"], "task two": ["y"]})
    path = write_answers(tmp_path / "model_outputs.json", made, "alpaca_eval")
    assert json.loads(path.read_text())[0] == {"instruction": "task one", "output": "x", "generator": "m"}
    assert {k: [a.text for a in v] for k, v in read_answers(path).by.items()} == {
        key_of("task one"): ["x"],
        key_of("task two"): ["y"],
    }
    with pytest.raises(DataError, match="2 answers to one prompt"):
        write_answers(path, answers("m", {"task": ["x", "y"]}), "alpaca_eval")
    two = gather("m", [("k", [*CHAT, {"role": "assistant", "content": "Red."}, *CHAT], Answer("x"))])
    with pytest.raises(DataError, match="a prompt of several turns"):
        write_answers(path, two, "alpaca_eval")


def test_model_answers_of_the_arena_and_of_mt_bench(tmp_path):
    new = {
        "uid": "u",
        "model": "m",
        "messages": [*CHAT, {"role": "assistant", "content": {"answer": "Red."}}],
    }
    old = {"question_id": 81, "model_id": "m", "choices": [{"index": 0, "turns": [{"content": "Red."}]}]}
    bench = {"question_id": 81, "model_id": "m", "choices": [{"index": 0, "turns": ["Red.", "Blue."]}]}
    asked = tmp_path / "question.jsonl"
    asked.write_text(json.dumps({"question_id": 81, "turns": ["Name a colour.", "Another."]}) + "\n")
    for row in (new, old, bench):
        path = tmp_path / "answer.jsonl"
        path.write_text(json.dumps(row) + "\n")
        found = read_answers(path, questions_of(asked))
        assert (found.name, found.texts, list(found.by)) == ("m", ["Red."], [key_of(CHAT)])
    with pytest.raises(DataError, match="the question 81 is not among the data: give --data"):
        read_answers(path)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "x"}, r"bad\.jsonl:1: no answers: expected"),
        ({"prompt": 3, "completion": "x"}, "`prompt` must be text or a list of turns"),
        ({"instruction": "x", "output": None}, "`output` must be text, and is missing"),
        ({"messages": [CHAT[0]], "model": "m"}, "a list of turns that ends with the answer"),
        ([1], "a row must be an object"),
    ],
)
def test_rows_without_answers_are_refused(tmp_path, row, says):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=says):
        read_answers(path)


def test_answers_of_two_models_in_one_file_are_refused(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(
        "".join(json.dumps({"instruction": "x", "output": "y", "generator": g}) + "\n" for g in "ab")
    )
    with pytest.raises(DataError, match="answers of several models: a, b"):
        read_answers(path)


def test_win_rate_by_hand_mirrors_and_is_one_half_against_itself():
    a = answers("a", {"p": ["xxx", "x"], "q": ["xx"], "r": ["x"]})
    b = answers("b", {"p": ["xx", "xx"], "q": ["xx"], "r": ["xxx"]})
    one, other = contest(longer, a, b), contest(longer, b, a)
    assert one.win_rate()["value"] == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert one.win_rate()["value"] + other.win_rate()["value"] == 1
    assert contest(longer, a, a).win_rate()["value"] == 0.5
    assert (one.failed, one.bounds()) == (0, (0.375, 0.375))


def test_answers_are_paired_by_number_and_the_shorter_list_again():
    made = contest(longer, answers("a", {"p": ["x", "xxx", "x", "xxx"]}), answers("b", {"p": ["xx"]}))
    assert made.prob.tolist() == [0, 1, 0, 1]


class Sometimes:
    """An oracle without a verdict on the prompt q."""

    name, may_fail = "sometimes", True

    def compare(self, prompts, a, b):
        wins = [float(len(x) > len(y)) for x, y in zip(a, b, strict=True)]
        return torch.tensor([float("nan") if p == "q" else w for p, w in zip(prompts, wins, strict=True)])

    def score(self, prompts, responses):
        return torch.tensor([float("nan") if p == "q" else 2.0 for p in prompts])


def test_failures_are_no_verdicts_and_stand_in_the_denominator():
    a = answers("a", {"p": ["xxx"], "q": ["xxx"], "r": ["x"], "s": ["xx"]})
    b = answers("b", {"p": ["x"], "q": ["x"], "r": ["xx"], "t": ["x"]})
    made = contest(Sometimes(), a, b)
    assert made.win_rate()["value"] == 0.5
    assert (made.failed, made.unanswered) == (1, 2)
    assert made.bounds() == (pytest.approx(1 / 5), pytest.approx(4 / 5))
    assert rewards(Sometimes(), a)["value"] == 2 and rewards(longer, a) is None
    assert len(battles_of([made])) == 2


def test_writers_of_other_prompts_are_refused():
    with pytest.raises(DataError, match="a and b have no prompt in common"):
        contest(longer, answers("a", {"p": ["x"]}), answers("b", {"q": ["x"]}))


def test_a_population_in_a_circle():
    """Each letter beats the next: nobody beats everybody, and the Nash mixture is uniform."""
    circle = rule(lambda p, a, b: 0.5 if a == b else float((ord(b) - ord(a)) % 3 == 1))
    who = [answers(name, {f"p{k}": [name] for k in range(8)}) for name in "abc"]
    made = [contest(circle, who[i], who[j]) for i, j in ((0, 2), (1, 2), (0, 1))]
    game = population(list("abc"), made)
    assert np.allclose(game["win_rates"], [[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]])
    assert game["nash"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert (game["condorcet_winner"], game["cyclic_triples"]) == (False, 1.0)
    assert game["exploitability"]["a"]["interval"]["value"] == pytest.approx(0.5)
    assert game["exploitability"]["a"]["exploiter"] == "c"
    assert game["exploitability"]["uniform mixture"]["interval"]["value"] == pytest.approx(0, abs=1e-12)


def test_distinct_n_and_self_bleu_by_hand():
    assert diversity.distinct(["a b a b"], 1) == 0.5
    assert diversity.distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert diversity.distinct([""], 1) is None
    same, other = ["one", "two", "three", "four", "five"], ["six", "seven", "eight", "nine", "ten"]
    assert diversity.bleu(same, [same]) == pytest.approx(1)
    assert diversity.bleu(same, [other]) == 0
    # unigrams 4/5, then (2+1)/(4+1), (1+1)/(3+1), (0+1)/(2+1), equal lengths
    assert diversity.bleu(same, [["one", "two", "three", "six", "five"]]) == pytest.approx(
        (4 / 5 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    )
    assert diversity.bleu(same[:4], [same]) == pytest.approx(np.exp(1 - 5 / 4))
    assert diversity.self_bleu([["a b c d e"] * 3, ["x"]])["value"] == pytest.approx(1)
    assert diversity.self_bleu([["x"], ["y"]]) is None
