"""In-context examples: retrieval by cosine, their place in a chat, answers with them, and better answers for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases.families import FAMILIES
from equipoise.cli.app import main
from equipoise.data.errors import DataError
from equipoise.data.reading.read import read
from equipoise.evaluate.examples import Example, Examples, prompted, read_examples, write_examples
from equipoise.evaluate.located import locate
from equipoise.evaluate.prompt_search.example_search import improved
from equipoise.evaluate.prompt_search.search import Judgement
from equipoise.evaluate.writer import Writer, sampled
from equipoise.models.errors import ModelError
from equipoise.policy.protocol import Decoding


class Letters:
    """Counts of a, b and c."""

    content = "letters"

    def __call__(self, texts):
        return torch.tensor([[text.count(letter) for letter in "abc"] for text in texts], dtype=torch.float64)


def examples(*queries, count=2, embed=None):
    return Examples.of([Example(q, f"to {q}") for q in queries], count, embed or Letters())


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=5), min_size=3, max_size=8, unique=True),
    st.text("abc", max_size=5),
)
def test_the_nearest_are_those_of_a_plain_loop(queries, query):
    def cosine(other):
        a, b = (Letters()([text])[0].numpy() for text in (query, other))
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / size if size else 0.0

    (found,) = examples(*queries, count=3).nearest([query])
    near = [cosine(example.query) for example in found]
    rest = [cosine(q) for q in queries if q != query and q not in {example.query for example in found}]
    assert near == sorted(near) and all(min(near) >= other - 1e-9 for other in rest)
    assert all(example.query != query for example in found)
    assert len(found) == min(3, len(queries) - (query in queries))


def test_examples_stand_between_the_system_turn_and_the_query():
    chat = [{"role": "system", "content": "Be."}, {"role": "user", "content": "aab"}]
    (placed,) = examples("aa", "b", "ccc").placed([chat])
    said = [(turn["role"], turn["content"]) for turn in placed]
    shown = [("user", "b"), ("assistant", "to b"), ("user", "aa"), ("assistant", "to aa")]
    assert said == [("system", "Be."), *shown, ("user", "aab")]
    assert chat == [{"role": "system", "content": "Be."}, {"role": "user", "content": "aab"}]
    with pytest.raises(DataError, match="--wrap chat"):
        examples("aa", "b").placed(["aab"])


def test_without_an_embedding_all_examples_are_shown_or_none_can_be_chosen():
    given = [Example("one", "1"), Example("two", "2")]
    assert Examples.of(given, 2, None).nearest(["x", "two"]) == [given[::-1], given[:1]]
    with pytest.raises(DataError, match="name an embedding"):
        Examples.of([*given, Example("three", "3")], 2, None)
    assert Examples.of(given, 2, None).fingerprint != Examples.of(given, 1, Letters()).fingerprint


def test_rows_of_any_kind_are_read_and_what_is_no_example_is_refused(tmp_path: Path):
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "x"},
    ]
    rows = {
        "demonstrations": [{"prompt": "p", "completion": "c"}, {"prompt": "p", "completion": "c"}],
        "pairs": [{"prompt": "p", "chosen": "good", "rejected": "bad"}],
        "lists": [{"prompt": "p", "responses": ["low", "high", "mid"], "scores": [1, 9, 5]}],
    }
    expected = {"demonstrations": "c", "pairs": "good", "lists": "high"}
    for kind, listed in rows.items():
        file = tmp_path / f"{kind}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in listed))
        assert read_examples(read(str(file))) == [Example("p", expected[kind])]
    file = tmp_path / "long.jsonl"
    file.write_text(
        json.dumps({"prompt": chat, "completion": [{"role": "assistant", "content": "c"}]}) + "\n"
    )
    dataset = read(str(file))
    with pytest.raises(DataError, match="no example"):
        read_examples(dataset)
    assert dataset.ledger.refused == {"an example's query is one user turn": 1}
    write_examples(tmp_path / "out.jsonl", [Example("q", "ä\n<b>")])
    assert read_examples(read(str(tmp_path / "out.jsonl"))) == [Example("q", "ä\n<b>")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return FAMILIES["llama"]().save(tmp_path_factory.mktemp("model") / "llama")


def test_sampling_with_examples_is_sampling_after_their_turns(model, tmp_path: Path):
    """The same ids and answers as when the turns stand in the data; the prompt that is written stays the query."""
    shots, queries = tmp_path / "shots.jsonl", tmp_path / "queries.jsonl"
    shots.write_text(
        "".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in (("one", "1"), ("two", "2")))
    )
    queries.write_text(json.dumps({"prompt": "three"}) + "\n")
    out = tmp_path / "out.jsonl"
    given = ["sample", model, "--data", queries, "--out", out, "--wrap", "chat", "--examples", shots]
    with pytest.raises(SystemExit) as end:
        main([str(one) for one in (*given, "--max-new-tokens", 6, "--seed", 3)])
    assert end.value.code == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["prompt"] == [{"role": "user", "content": "three"}]
    turns = [("user", "two"), ("assistant", "2"), ("user", "one"), ("assistant", "1"), ("user", "three")]
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": [{"role": r, "content": c} for r, c in turns]}) + "\n")
    writer = Writer.load(locate(str(model)))
    prompts = writer.prompts(read(str(long)))
    answers = sampled(writer, prompts, 1, Decoding(max_new_tokens=6), seed=3)
    (answer,) = answers.texts
    said = row["completion"]
    assert (said if isinstance(said, str) else said[0]["content"]) == answer
    short = replace(writer, renderer=replace_limit(writer, len(prompts[0].ids)))
    with pytest.raises(ModelError, match="with its examples"):
        prompted(
            short,
            writer.prompts(read(str(queries), wrap="chat")),
            Examples.of([Example("one", "1"), Example("two", "2")], 2, None),
        )


def replace_limit(writer, limit):
    import copy

    renderer = copy.copy(writer.renderer)
    renderer.max_length = limit
    return renderer


def judged(number, answer, reward):
    return Judgement(query=number, answer=answer, reward=reward, scores={"a": reward}, reasons={"a": "so"})


class Lengths:
    """Longer answers earn more; rewrites are given in order."""

    def __init__(self, *rewrites):
        self.rewrites, self.asked = list(rewrites), 0

    def judged(self, answers):
        self.asked += len(answers)
        return [judged(number, answer, float(len(answer))) for number, _, answer in answers]

    def rewrite(self, example, judgement, count, step):
        return [self.rewrites.pop(0) for _ in range(count)]


class Memory(dict):
    def put(self, name, value):
        self[name] = json.dumps(value)

    def get(self, name):
        return json.loads(self[name]) if name in self else None


def test_an_answer_is_replaced_by_a_better_one_alone_and_a_good_one_is_kept():
    task, kept = Lengths("xx", None, "x", "xxxx", "xxx", "yyyy"), Memory()
    given = [Example("q", "aa"), Example("r", "aaaaa")]
    better, rewards = improved(task, given, steps=3, proposals=2, record=kept)
    assert better == [
        Example("q", "xxxx"),
        Example("r", "aaaaa"),
    ]  # 2 = 2 keeps aa, 4 < 4.5 goes on, 5 is good
    assert rewards == [{"first": 2.0, "last": 4.0}, {"first": 5.0, "last": 5.0}]
    again = Lengths()
    assert improved(again, given, steps=3, proposals=2, record=kept) == (better, rewards) and not again.asked
