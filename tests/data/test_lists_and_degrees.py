"""Ranked lists, degraded texts, and the lead of a rationale."""

from __future__ import annotations

import json

import pytest

from equipoise.data.collate import Prompt, Response
from equipoise.data.content_removal import degraded, key_phrases, versions
from equipoise.data.errors import DataError
from equipoise.data.ranked_lists import as_pairs, ordered, pairs_of, spread, usual_size
from equipoise.data.rationale_prompt import RationalePrompt
from equipoise.data.reading.read import read
from equipoise.data.rendering.render import Renderer, load_tokenizer
from equipoise.playground import LanguageGame, lists, model_path, reference_policy
from equipoise.playground.grammar import rationale

TEXT = "The old town hall was rebuilt after the great fire, and the old town never forgot it."


def written(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# degrees ------------------------------------------------------------------------------------------------


def test_key_phrases_by_hand():
    """Degree over frequency: 3 for each of old, town, hall and never, 2 for great and fire, 1 for the others."""
    phrases = [TEXT[start:end] for start, end in key_phrases(TEXT)]
    assert phrases == ["old town hall", "old town never", "great fire", "rebuilt", "forgot"]
    assert key_phrases("It was not for you.") == []


def test_degree_0_is_the_text_itself_and_removal_stops_where_nothing_is_left():
    assert degraded(TEXT, 0, 4) == TEXT
    assert degraded("It was not for you.", 3, 4) == "It was not for you."
    bare = degraded("Strong tea, hot.", 3, 4)
    assert degraded(bare, 3, 4) == bare  # idempotent
    with pytest.raises(ValueError, match="below 4"):
        degraded(TEXT, 4, 4)


def test_more_and_more_is_missing():
    found = [TEXT, *versions(TEXT, 4)]
    left = [len(key_phrases(text)) for text in found]
    assert left == sorted(left, reverse=True) and len(set(found)) == 4
    assert all(" ," not in text and "  " not in text for text in found)
    assert versions(TEXT, 4) == versions(TEXT, 4)


def test_a_short_text_loses_words_and_one_without_content_has_no_versions():
    assert [len(text.split()) for text in versions("Gladly, a large hot black tea.", 4)] == [4, 3, 2]
    assert versions("Yes.", 4) is None and versions("It is.", 4) is None


# lists --------------------------------------------------------------------------------------------------

SCORED = {"prompt": "Name a prime.", "responses": [" 8", " 7", " 9"], "rewards": [0.1, 0.9, 0.1]}


def test_scored_lists_are_read_with_their_scores(tmp_path):
    data = read(written(tmp_path, SCORED, {**SCORED, "prompt": "Another?"}))
    assert (data.kind, data.format, data.space) == ("scores", "list-text", "text")
    assert [(c.content, c.score) for c in data.records[0].candidates] == [
        (" 8", 0.1),
        (" 7", 0.9),
        (" 9", 0.1),
    ]
    again = read(written(tmp_path, data.records[0].as_row()))
    assert again.records[0].candidates == data.records[0].candidates


@pytest.mark.parametrize(
    "row, name, scores",
    [
        (
            {
                "prompt": "\n\nHuman: Hi\n\nAssistant: ",
                "answers": [{"answer": "A", "rank": 2}, {"answer": "B", "rank": 1.0}],
            },
            "nectar",
            [-2, -1],
        ),
        (
            {
                "context": [{"role": "user", "content": "Hi"}],
                "completions": [
                    {"rank": 0, "completion": [{"role": "assistant", "content": "A"}]},
                    {"rank": 1, "completion": [{"role": "assistant", "content": "B"}]},
                ],
            },
            "nemo",
            [0, -1],
        ),
        (
            {
                "instruction": "Hi",
                "completions": [
                    {"response": "A", "annotations": {"honesty": {"Rating": "4"}, "truth": {"Rating": "5"}}},
                    {"response": "B", "annotations": {"honesty": {"Rating": "2"}, "truth": {"Rating": "3"}}},
                ],
            },
            "ultrafeedback",
            [4.5, 2.5],
        ),
        (
            {"prompt": [{"role": "user", "content": "Hi"}], "responses": ["A", "B"], "rewards": [1, 2]},
            "list-chat",
            [1, 2],
        ),
    ],
)
def test_lists_of_others_are_read(tmp_path, row, name, scores):
    data = read(written(tmp_path, row))
    assert data.format == name and [c.score for c in data.records[0].candidates] == scores
    assert [c.text for c in data.records[0].candidates] == ["A", "B"]
    assert data.records[0].context[-1].role == "user"


@pytest.mark.parametrize(
    "row, reason",
    [
        ({**SCORED, "rewards": [1, 2]}, "3 answers with 2 rewards"),
        ({**SCORED, "rewards": [1, 2, "much"]}, "rewards is not a number"),
        ({**SCORED, "rewards": [1, 2, None]}, "an answer has no rewards"),
        ({**SCORED, "responses": [" 7", " 7", " 7"]}, "a list needs two different answers"),
        ({**SCORED, "responses": [" 7", "", " 9"]}, r"responses\[1\] is empty"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, row, reason):
    with pytest.raises(DataError, match=reason):
        read(written(tmp_path, row))


def test_pairs_of_a_list_leave_ties_out(tmp_path):
    (record,) = read(written(tmp_path, SCORED)).records
    assert [c.content for c in ordered(record).candidates] == [" 7", " 8", " 9"]
    named = {
        which: [tuple(c.content for c in p.candidates) for p in pairs_of(record, which)]
        for which in ("best_worst", "all", "adjacent")
    }
    assert named == {
        "best_worst": [(" 7", " 9")],
        "all": [(" 7", " 8"), (" 7", " 9")],
        "adjacent": [(" 7", " 8")],
    }
    assert [pair.margin for pair in pairs_of(record, "all")] == pytest.approx([0.8, 0.8])
    data = as_pairs(read(written(tmp_path, SCORED)), "all")
    assert data.kind == "pair" and any("1 lists give 2 pairs" in note for note in data.notes)
    with pytest.raises(DataError, match="all answers of every list tie"):
        as_pairs(read(written(tmp_path, {**SCORED, "rewards": [1, 1, 1]})))


def test_lists_of_one_length():
    assert usual_size([3, 4, 4, 5]) == 4 and usual_size([2, 5]) == 5
    assert spread(7, 3) == [0, 3, 6] and spread(4, 4) == [0, 1, 2, 3] and spread(9, 2) == [0, 8]


def test_the_playgrounds_lists_carry_win_rates():
    game = LanguageGame()
    rows = lists(game, 20, size=5, reference=reference_policy())
    assert rows == lists(game, 20, size=5, reference=reference_policy())
    rates = (game.preference * reference_policy()[:, None, :]).sum(dim=2)
    for row in rows:
        assert len(set(row["responses"])) == 5
        x = game.prompts.index(row["prompt"])
        assert x in game.train
        want = [float(rates[x, game.responses.index(answer)]) for answer in row["responses"]]
        assert row["rewards"] == pytest.approx(want, rel=1e-12)


# rationales ---------------------------------------------------------------------------------------------


def test_the_playgrounds_rationales_name_what_fits_in_its_own_words():
    game = LanguageGame()
    x = game.prompts.index("On a rainy morning a tired farmer asks for tea.")
    good, bad = (
        game.responses.index(t) for t in ("Gladly, a large hot black tea.", "Fine, a large iced black tea.")
    )
    assert rationale(x, good, bad) == "Gladly, hot for rainy"
    assert rationale(x, bad, good) == "black tea."
    known = load_tokenizer(str(model_path()))
    assert known.unk_token_id not in known("Gladly, hot for rainy")["input_ids"]


@pytest.mark.parametrize("words", [True, False])
def test_declaring_the_other_answer_better_gives_another_lead(words: bool):
    renderer = Renderer(load_tokenizer(str(model_path())), max_length=128)
    codec = renderer.codec
    text = LanguageGame().prompts[0]
    prompt = Prompt(renderer.prompt(text), text, text)
    first, second = (Response((*codec.continuation(t), codec.eos), t) for t in LanguageGame().responses[:2])
    reasons = RationalePrompt(renderer, chat=False, words=words)
    leads = [reasons(prompt, *pair) for pair in ((first, second), (second, first))]
    assert leads[0] != leads[1]
    assert (
        leads[0][: len(first.ids) - 1] == first.ids[:-1]
    )  # the better answer's own tokens, its end left out
    assert codec.eos not in leads[0]
    assert reasons.rationale("hot for rainy")[-1] == codec.eos
