"""Every public layout: a row as its library or data set writes it, and the record that must come of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipoise.data.errors import DataError
from equipoise.data.reading.read import read
from equipoise.data.records import Record, plain

Rows = Callable[..., Path]
ASK, GOOD, BAD = "Name a river in Peru.", "The Ucayali.", "Lake Titicaca."


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def bot(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


def human(value: str) -> dict[str, str]:
    return {"from": "human", "value": value}


def gpt(value: str) -> dict[str, str]:
    return {"from": "gpt", "value": value}


class Layout(NamedTuple):
    """A row, the format it has, the context, the answers, and what else the record must say."""

    row: dict[str, Any]
    format: str
    context: Any = [user(ASK)]  # noqa: RUF012 (never changed)
    answers: Any = ([bot(GOOD)], [bot(BAD)])
    says: dict[str, Any] = {}  # noqa: RUF012


PAIR = {"chosen": GOOD, "rejected": BAD}
WHOLE = {"chosen": [user(ASK), bot(GOOD)], "rejected": [user(ASK), bot(BAD)]}
CALL = {"type": "function", "function": {"name": "river", "arguments": {"country": "Peru"}}}

LAYOUTS = {
    # -- pairs under other names
    "LLaMA-Factory alpaca ranking": Layout(
        {
            "instruction": "Translate",
            "input": "cat",
            "system": "Be brief",
            "history": [["dog", "chien"]],
            **PAIR,
        },
        "pair-question",
        [system("Be brief"), user("dog"), bot("chien"), user("Translate\ncat")],
    ),
    "LLaMA-Factory sharegpt ranking": Layout(
        {"conversations": [human(ASK)], "chosen": gpt(GOOD), "rejected": gpt(BAD)}, "pair-question"
    ),
    "sharegpt ranking with a system column": Layout(
        {"conversations": [human(ASK)], "system": "Be kind.", "chosen": gpt(GOOD), "rejected": gpt(BAD)},
        "pair-question",
        [system("Be kind."), user(ASK)],
    ),
    "Axolotl chat_template.default": Layout(
        {"messages": [system("S"), user(ASK)], "chosen": bot(GOOD), "rejected": bot(BAD)},
        "pair-question",
        [system("S"), user(ASK)],
    ),
    "Axolotl chat_template with strings": Layout({"messages": [user(ASK)], **PAIR}, "pair-question"),
    "Axolotl chat_template with lists": Layout(
        {"messages": [user(ASK)], "chosen": [bot(GOOD)], "rejected": [bot(BAD)]}, "pair-question"
    ),
    "messages that repeat the chosen conversation": Layout(
        {"messages": [user(ASK), bot(GOOD)], **WHOLE}, "pair-question"
    ),
    "Axolotl chatml.intel, Orca pairs": Layout(
        {"system": "Be brief.", "question": ASK, **PAIR}, "pair-question", [system("Be brief."), user(ASK)]
    ),
    "Axolotl chatml.icr, distilabel-intel-orca": Layout(
        {"system": "", "input": ASK, **PAIR, "rating": [9.0, 3.0], "status": "unchanged"}, "pair-question"
    ),
    "Axolotl prompt_pairs with a system prompt": Layout(
        {"system": "Be brief.", "prompt": ASK, **PAIR}, "pair-text", [system("Be brief."), user(ASK)]
    ),
    "Axolotl argilla": Layout(
        {"instruction": ASK, "chosen_response": GOOD, "rejected_response": BAD}, "pair-chosen-response"
    ),
    "Axolotl argilla_chat": Layout(
        {
            "chosen_response": [user(ASK), bot(GOOD)],
            "rejected_response": [user(ASK), bot(BAD)],
        },
        "pair-chosen-response",
    ),
    "Axolotl ultra, UltraFeedback binarised": Layout(
        {"prompt": ASK, **WHOLE, "score_chosen": 8.5, "score_rejected": 4.0},
        "pair-chat-hybrid",
        says={"scores": [8.5, 4.0]},
    ),
    "ms-swift rejected_response": Layout(
        {"messages": [system("S"), user(ASK), bot(GOOD)], "rejected_response": BAD},
        "pair-ms-swift",
        [system("S"), user(ASK)],
    ),
    "ms-swift rejected_messages": Layout(
        {"messages": [user(ASK), bot(GOOD)], "rejected_messages": [user(ASK), bot(BAD)], "margin": 2.0},
        "pair-ms-swift",
        says={"margin": 2.0},
    ),
    "ms-swift with an agent's run as the chosen answer": Layout(
        {
            "messages": [
                user(ASK),
                {
                    "role": "tool_call",
                    "content": json.dumps({"name": "river", "arguments": {"country": "Peru"}}),
                },
                {"role": "tool_response", "content": "Ucayali"},
                bot(GOOD),
            ],
            "rejected_response": BAD,
        },
        "pair-ms-swift",
        answers=(
            [bot("") | {"tool_calls": [CALL]}, {"role": "tool", "content": "Ucayali"}, bot(GOOD)],
            [bot(BAD)],
        ),
    ),
    "torchtune": Layout(
        {"chosen_conversations": WHOLE["chosen"], "rejected_conversations": WHOLE["rejected"]},
        "pair-chosen-conversations",
    ),
    "OpenAI preference": Layout(
        {
            "input": {"messages": [user(ASK)], "tools": [{"name": "river"}], "parallel_tool_calls": True},
            "preferred_output": [bot(GOOD)],
            "non_preferred_output": [bot(BAD)],
        },
        "pair-openai",
        says={"tools": [{"name": "river"}], "extra": {"parallel_tool_calls": True}},
    ),
    "stack-exchange-paired": Layout(
        {"qid": 4, "question": ASK, "date": "2020/01/01", "response_j": GOOD, "response_k": BAD},
        "pair-response-j",
    ),
    "SPPO": Layout(
        {**WHOLE, "chosen_probs": 0.8, "chosen_probs_win": 0.75, "chosen_probs_lose": 0.3},
        "pair-chat-implicit",
        says={"prob": 0.8, "scores": [0.75, 0.3]},
    ),
    "Online-RLHF, RLHFlow": Layout(
        {**WHOLE, "chosen_score": 1.5, "rejected_score": -0.2, "margin": 1.7},
        "pair-chat-implicit",
        says={"scores": [1.5, -0.2], "margin": 1.7},
    ),
    "distilabel DPO": Layout(
        {
            "prompt": ASK,
            **WHOLE,
            "chosen_rating": 5,
            "rejected_rating": 2,
            "instruction": ASK,
            "generations": [GOOD, BAD],
            "ratings": [5, 2],
        },
        "pair-chat-hybrid",
        says={"scores": [5.0, 2.0]},
    ),
    "Capybara": Layout(
        {
            "prompt": "Hello",
            "chosen": [user("Hello"), bot("Hi."), user(ASK), bot(GOOD)],
            "rejected": [user("Hello"), bot("Hi."), user(ASK), bot(BAD)],
            "conversation": [{"input": "Hello", "output": "Hi."}],
        },
        "pair-chat-hybrid",
        [user("Hello"), bot("Hi."), user(ASK)],
    ),
    "RewardBench 2 with one answer on each side": Layout(
        {"prompt": ASK, "chosen": [GOOD], "rejected": [BAD], "num_correct": 1}, "pair-lists", ASK, (GOOD, BAD)
    ),
    # -- comparisons of A and B
    "Chatbot Arena": Layout(
        {
            "model_a": "m",
            "model_b": "n",
            "winner": "model_b",
            "conversation_a": [user(ASK), bot(BAD)],
            "conversation_b": [user(ASK), bot(GOOD)],
        },
        "compare-winner",
    ),
    "Chatbot Arena, tie": Layout(
        {
            "winner": "tie (bothbad)",
            "conversation_a": [user(ASK), bot(GOOD)],
            "conversation_b": [user(ASK), bot(BAD)],
        },
        "compare-winner",
        says={"prob": 0.5},
    ),
    "Arena, Kaggle": Layout(
        {
            "prompt": json.dumps([ASK, "Sure?"]),
            "response_a": json.dumps([GOOD, "Yes."]),
            "response_b": json.dumps([BAD, "Yes."]),
            "winner_model_a": 1,
            "winner_model_b": 0,
            "winner_tie": 0,
        },
        "compare-winner-flags",
        answers=([bot(GOOD), user("Sure?"), bot("Yes.")], [bot(BAD), user("Sure?"), bot("Yes.")]),
    ),
    "HelpSteer2-preference": Layout(
        {"prompt": ASK, "response_1": BAD, "response_2": GOOD, "preference_strength": 2},
        "compare-strength",
        says={"margin": 2.0},
    ),
    "HelpSteer3": Layout(
        {"context": [user(ASK)], "response1": GOOD, "response2": BAD, "overall_preference": -3},
        "compare-strength",
        says={"margin": 3.0},
    ),
    "HelpSteer3, tie": Layout(
        {"context": [user(ASK)], "response1": GOOD, "response2": BAD, "overall_preference": 0},
        "compare-strength",
        says={"prob": 0.5, "margin": 0.0},
    ),
    "SHP": Layout(
        {"history": ASK, "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0, "score_A": 4, "score_B": 20},
        "compare-shp",
        says={"scores": [20.0, 4.0]},
    ),
    "HALOs pairwise": Layout(
        {
            "type": "pairwise_feedback",
            "prompt": [user(ASK)],
            "output_A": [bot(GOOD)],
            "output_B": [bot(BAD)],
            "label": 1,
            "reward_A": 2.0,
            "reward_B": 0.5,
        },
        "compare-halos",
        says={"scores": [2.0, 0.5]},
    ),
    "PKU-SafeRLHF": Layout(
        {
            "prompt": ASK,
            "response_0": BAD,
            "response_1": GOOD,
            "better_response_id": 1,
            "safer_response_id": 0,
        },
        "pku-better",
    ),
    "WebGPT": Layout(
        {"question": {"full_text": ASK}, "answer_0": BAD, "answer_1": GOOD, "score_0": -0.5, "score_1": 0.5},
        "compare-scores",
        says={"scores": [0.5, -0.5]},
    ),
    "WebGPT, tie": Layout(
        {"question": {"full_text": ASK}, "answer_0": GOOD, "answer_1": BAD, "score_0": 0.0, "score_1": 0.0},
        "compare-scores",
        says={"prob": 0.5, "scores": [0.0, 0.0]},
    ),
    "AlpacaEval annotations": Layout(
        {"instruction": ASK, "output_1": BAD, "output_2": GOOD, "preference": 1.75},
        "compare-soft",
        says={"prob": 0.75},
    ),
    "TL;DR comparisons": Layout(
        {
            "info": {"post": "A long story.", "title": "Help", "subreddit": "tifu"},
            "summaries": [{"text": BAD}, {"text": f" {GOOD}"}],
            "choice": 1,
        },
        "compare-summaries",
        "SUBREDDIT: r/tifu\n\nTITLE: Help\n\nPOST: A long story.\n\nTL;DR:",
        (f" {GOOD}", f" {BAD}"),
    ),
    # -- lists
    "distilabel rating task": Layout(
        {"instruction": ASK, "generations": [GOOD, BAD], "ratings": [5, 2], "rationales": ["a", "b"]},
        "rated-list",
        says={"scores": [5.0, 2.0]},
    ),
    "Nectar": Layout(
        {
            "prompt": f"\n\nHuman: {ASK}\n\nAssistant: ",
            "answers": [{"answer": GOOD, "rank": 1.0}, {"answer": BAD, "rank": 2.0}],
        },
        "nectar",
        says={"scores": [-1.0, -2.0]},
    ),
    "Nectar after several turns": Layout(
        {
            "prompt": f"\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: {ASK}\n\nAssistant: ",
            "answers": [{"answer": GOOD, "rank": 1.0}, {"answer": BAD, "rank": 2.0}],
        },
        "nectar",
        [user("Hello"), bot("Hi."), user(ASK)],
        says={"scores": [-1.0, -2.0]},
    ),
    # -- unpaired
    "KTO with kto_tag": Layout(
        {"prompt": [user(ASK)], "completion": [bot(GOOD)], "kto_tag": True},
        "unpaired-chat",
        answers=([bot(GOOD)],),
        says={"desirable": True},
    ),
    "LLaMA-Factory KTO in alpaca columns": Layout(
        {
            "instruction": "Translate",
            "input": "cat",
            "output": "chat",
            "system": "Be brief",
            "kto_tag": False,
        },
        "unpaired-alpaca",
        [system("Be brief"), user("Translate\ncat")],
        ([bot("chat")],),
        {"desirable": False},
    ),
    "ms-swift KTO": Layout(
        {"messages": [user(ASK), bot(GOOD)], "label": True},
        "unpaired-messages",
        answers=([bot(GOOD)],),
        says={"desirable": True},
    ),
    # -- demonstrations and prompts
    "Alpaca": Layout(
        {"instruction": "Translate", "input": "cat", "output": "chat"},
        "demonstration-alpaca",
        [user("Translate\ncat")],
        ([bot("chat")],),
    ),
    "Dolly": Layout(
        {"instruction": ASK, "context": "Peru has rivers.", "response": GOOD, "category": "closed_qa"},
        "demonstration-alpaca",
        [user(f"{ASK}\nPeru has rivers.")],
        ([bot(GOOD)],),
    ),
    "AlpacaEval outputs": Layout(
        {"instruction": ASK, "output": GOOD, "generator": "m"}, "demonstration-alpaca", answers=([bot(GOOD)],)
    ),
    "question and answer": Layout(
        {"question": ASK, "answer": GOOD}, "demonstration-alpaca", answers=([bot(GOOD)],)
    ),
    "Arena-Hard outputs": Layout(
        {"uid": "u", "messages": [user(ASK), {"role": "assistant", "content": {"answer": GOOD}}]},
        "messages",
        answers=(),
        says={"extra": {"uid": "u", "continuation": [bot(GOOD)]}},
    ),
    "MT-Bench questions": Layout({"question_id": 81, "turns": [ASK, "And another."]}, "turns", answers=()),
    "UltraChat": Layout(
        {"prompt": ASK, "prompt_id": "x", "messages": [user(ASK), bot(GOOD)]},
        "messages",
        answers=(),
        says={"extra": {"prompt": ASK, "prompt_id": "x", "continuation": [bot(GOOD)]}},
    ),
    "sharegpt conversations": Layout(
        {"conversations": [human(ASK), gpt(GOOD)]},
        "messages",
        answers=(),
        says={"extra": {"continuation": [bot(GOOD)]}},
    ),
}


def said(record: Record) -> dict[str, Any]:
    scores = [candidate.score for candidate in record.candidates]
    return {
        "prob": record.prob,
        "margin": record.margin,
        "desirable": record.desirable,
        "scores": None if None in scores or not scores else scores,
        "tools": list(record.tools),
        "extra": dict(record.extra),
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_by_its_content(name: str, rows: Rows) -> None:
    layout = LAYOUTS[name]
    data = read(rows(layout.row))
    (record,) = data.records
    assert data.format == layout.format
    assert plain(record.context) == layout.context
    assert [plain(candidate.content) for candidate in record.candidates] == list(layout.answers)
    usual = {"prob": 1.0, "margin": None, "desirable": None, "scores": None, "tools": []}
    found = said(record)
    expected = usual | layout.says
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_its_record_written_as_a_row_is_read_as_the_same_record(name: str, rows: Rows) -> None:
    (record,) = read(rows(LAYOUTS[name].row)).records
    assert "system" not in record.extra, "a system prompt that was read must not be read twice"
    (again,) = read(rows(record.as_row(), name="again.jsonl")).records
    assert again.identity() == record.identity()


ASKED = [name for name, layout in LAYOUTS.items() if ASK in json.dumps(layout.context)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(ASKED), shuffled=st.randoms(use_true_random=False))
def test_rows_of_a_layout_give_the_same_records_alone_and_in_any_order(
    name: str, shuffled: random.Random, tmp_path: Path
) -> None:
    text = json.dumps(LAYOUTS[name].row)
    items = [text.replace(ASK, f"{ASK} ({number})") for number in range(4)]
    shuffled.shuffle(items)

    def identities(*lines: str) -> list[str]:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return [record.identity() for record in read(path).records]

    together = identities(*items)
    assert together == [identity for item in items for identity in identities(item)]
    assert len(set(together)) == 4


# -- layouts that give several records, or one of several rows -------------------------------------------------------


def test_lists_of_chosen_and_rejected_answers_give_every_pair(rows: Rows) -> None:
    data = read(rows({"prompt": "q", "chosen": ["a", "b"], "rejected": ["x", "", "y"]}))
    found = [tuple(candidate.content for candidate in record.candidates) for record in data.records]
    assert found == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert [record.id for record in data.records] == [f"data.jsonl:1#{n}" for n in (1, 2, 3, 4)]
    assert (data.ledger.read, data.ledger.used) == (1, 1)
    assert any("an empty answer in a list of rejected answers is left out (1 times)" in n for n in data.notes)


def test_rated_rows_of_one_prompt_form_its_list(rows: Rows) -> None:
    rating = {"correctness": 4, "coherence": 4}
    data = read(
        rows(
            {"prompt": "q", "response": "a", "helpfulness": 4, **rating},
            {"prompt": "r", "response": "c", "helpfulness": 2, **rating},
            {"prompt": "q", "response": "b", "helpfulness": 1, **rating},
            {"prompt": "alone", "response": "d", "helpfulness": 1, **rating},
            {"prompt": "r", "response": "e", "helpfulness": 3, **rating},
        )
    )
    assert (data.kind, data.format) == ("scores", "rated-rows")
    lists = [[(c.text, c.score) for c in record.candidates] for record in data.records]
    assert lists == [[("a", 4.0), ("b", 1.0)], [("c", 2.0), ("e", 3.0)]]
    assert data.ledger.refused == {"only one answer to this prompt": 1}


def test_each_step_is_an_answer_after_the_steps_before_it(rows: Rows) -> None:
    steps = {"prompt": "Is 91 prime?", "completions": ["7 * 13 = 91.", "So it is."], "labels": [True, False]}
    first, second = read(rows(steps)).records
    assert (first.context, first.candidates[0].content) == ("Is 91 prime?", "\n7 * 13 = 91.")
    assert (second.context, second.candidates[0].content) == ("Is 91 prime?\n7 * 13 = 91.", "\nSo it is.")
    assert (first.desirable, second.desirable) == (True, False)
    assert first.group == second.group
    chat = read(rows(steps | {"prompt": [user("Is 91 prime?")]}, name="chat.jsonl")).records
    assert plain(chat[1].context) == [user("Is 91 prime?"), bot("7 * 13 = 91.")]
    assert plain(chat[1].candidates[0].content) == [bot("\nSo it is.")]
    wrapped = read(rows(steps), wrap="chat").records
    assert [r.identity() for r in wrapped] == [r.identity() for r in chat]


def test_the_safer_answer_is_chosen_by_name_and_the_choice_is_said(rows: Rows) -> None:
    path = rows(LAYOUTS["PKU-SafeRLHF"].row)
    assert any("for the safer one: `format: pku-safer`" in note for note in read(path).notes)
    (record,) = read(path, format="pku-safer").records
    assert [candidate.text for candidate in record.candidates] == [BAD, GOOD]


def test_equal_and_inverted_scores_are_noted_with_their_lines(rows: Rows) -> None:
    def pair(number: int, a: float, b: float) -> dict[str, Any]:
        return {
            "prompt": f"q{number}",
            "chosen": "a",
            "rejected": "b",
            "score_chosen": a,
            "score_rejected": b,
        }

    data = read(rows(pair(1, 2, 1), pair(2, 2, 2), pair(3, 1, 2), pair(4, 3, 3)))
    assert (
        "2 rows have equal scores, which do not support their label (data.jsonl:2; data.jsonl:4)"
        in data.notes
    )
    assert "1 rows have inverted scores, which do not support their label (data.jsonl:3)" in data.notes


@pytest.mark.parametrize("score", ["good", [1], {"a": 1}, float("inf"), float("nan")])
def test_scores_that_are_no_numbers_are_not_read_and_noted(rows: Rows, score: Any) -> None:
    pair = {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": score, "score_rejected": 1}
    data = read(
        rows(pair, pair | {"prompt": "r", "score_chosen": 2}, pair | {"prompt": "s", "score_chosen": None})
    )
    assert [record.candidates[0].score for record in data.records] == [None, 2, None]
    said = "`score_chosen` and `score_rejected` are not two finite numbers: not read (1 times)"
    assert said in data.notes


@pytest.mark.parametrize("reward", [None, "good", {}, float("nan"), float("inf")])
def test_a_round_with_a_reward_that_is_no_number_is_refused(rows: Rows, reward: Any) -> None:
    row = {"context": '"q"', "responses": [{"text": "a"}, {"text": "b"}], "prompt_ids": [1], "prob": None}
    with pytest.raises(DataError, match=r"reward is not a|an answer has no reward"):
        read(rows(row | {"reward": [reward, 1]}), strict=True)


def test_equal_scores_may_be_ties_or_left_out(rows: Rows) -> None:
    even = {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 2}
    path = rows(even, even | {"prompt": "r", "score_chosen": 3})
    assert [record.prob for record in read(path, equal_scores="tie").records] == [0.5, 1.0]
    dropped = read(path, equal_scores="drop")
    assert [record.context for record in dropped.records] == ["r"]
    assert dropped.ledger.refused == {"the answers have equal scores": 1}


def test_ties_are_counted(rows: Rows) -> None:
    tie = LAYOUTS["HelpSteer3, tie"].row
    data = read(rows(tie, tie | {"context": [user("Other?")]}, LAYOUTS["HelpSteer3"].row))
    assert "ties: kept as pairs with probability 0.5 (2 times)" in data.notes


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (LAYOUTS["HelpSteer3"].row | {"overall_preference": 7}, "overall_preference is outside -3 to 3"),
        (LAYOUTS["Chatbot Arena"].row | {"winner": "model_c"}, "winner names neither answer nor a tie"),
        (LAYOUTS["PKU-SafeRLHF"].row | {"better_response_id": 2}, "better_response_id is neither 0 nor 1"),
        (LAYOUTS["SPPO"].row | {"chosen_probs": 1.5}, "chosen_probs is outside [0, 1]"),
        (LAYOUTS["AlpacaEval annotations"].row | {"preference": 3}, "preference is outside 1 to 2"),
        (
            LAYOUTS["Arena, Kaggle"].row | {"winner_tie": 1},
            "not exactly one of winner_model_a, winner_model_b and winner_tie is 1",
        ),
        (
            LAYOUTS["LLaMA-Factory alpaca ranking"].row | {"history": "x"},
            "history is not a list of [question, answer]",
        ),
        (LAYOUTS["HelpSteer3"].row | {"response2": GOOD}, "both answers are equal"),
    ],
)
def test_a_verdict_that_says_nothing_is_refused(row: dict[str, Any], reason: str, rows: Rows) -> None:
    good = next(layout.row for layout in LAYOUTS.values() if row.keys() == layout.row.keys())
    many = [good | {"id": number, "weight": number + 1} for number in range(10)]
    assert read(rows(*many, row)).ledger.refused == {reason: 1}


A, B = "it is this one", "it is that one"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("preference", (0, 1)),
        ("better_response_id", (1, 2)),
        ("labels", (1, 2)),
        ("labels", (-1, 1)),
        ("overall_preference", (1, 7)),
        ("winner", (1, 2)),
    ],
)
def test_numbers_of_another_scale_are_an_error_and_never_a_label(
    column: str, values: tuple[int, int], rows: Rows
) -> None:
    path = rows(
        *({"prompt": f"q {n}", "response_0": A, "response_1": B, column: values[n % 2]} for n in range(6))
    )
    with pytest.raises(DataError, match=r"data.jsonl:\d: .* in 3 of 6 rows: the numbers of this column mean"):
        read(path)


@pytest.mark.parametrize(
    ("columns", "values"), [(("answer_0", "answer_1"), (0, 1)), (("answer1", "answer2"), (1, 2))]
)
@pytest.mark.parametrize("kind", [int, float, str])
def test_a_winner_may_be_the_number_of_its_column(
    columns: tuple[str, str], values: tuple[int, int], kind: Any, rows: Rows
) -> None:
    path = rows(
        *({"prompt": f"q {n}", columns[0]: A, columns[1]: B, "winner": kind(values[n % 2])} for n in range(4))
    )
    assert [record.candidates[0].text for record in read(path).records] == [A, B, A, B]


@pytest.mark.parametrize("said", ["tie (both bad)", "Tie (bothbad)", "both-bad", "both_good", "TIE"])
def test_ties_are_known_however_they_are_spelt(said: str, rows: Rows) -> None:
    row = {"prompt": "q", "response_a": A, "response_b": B, "winner": said}
    assert read(rows(row)).records[0].prob == 0.5


def test_answers_under_names_that_do_not_belong_together_are_refused(rows: Rows) -> None:
    good = {"prompt": "q", "response_a": A, "response_b": B, "winner": "a"}
    odd = {"prompt": "q", "response_a": A, "output_2": B, "winner": "a"}
    assert read(rows(good, odd)).ledger.refused == {"no two columns of answers": 1}


def test_a_row_without_steps_is_refused(rows: Rows) -> None:
    good = {"prompt": "q", "completions": ["one step", "another"], "labels": [True, False]}
    data = read(rows(good, good | {"completions": [], "labels": []}))
    assert data.ledger.refused == {"the row holds no answer": 1} and data.ledger.read == 2


@pytest.mark.parametrize(
    ("yes", "no"), [("TRUE", "FALSE"), ("True", "False"), (" true", "false "), ("Chosen", "REJECTED")]
)
def test_labels_in_words_are_read_in_any_case(yes: str, no: str, rows: Rows) -> None:
    path = rows(*({"prompt": "q", "completion": f"it is {label}", "label": label} for label in (yes, no)))
    assert [record.desirable for record in read(path).records] == [True, False]


def test_answers_of_openai_may_be_strings(rows: Rows) -> None:
    row = {"input": {"messages": [user("q")]}, "preferred_output": A, "non_preferred_output": B}
    record = read(rows(row)).records[0]
    assert [candidate.text for candidate in record.candidates] == [A, B]


# -- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *[(name, "user") for name in ("user", "User", "USER", "human", "customer", "prompter")],
        *[(name, "assistant") for name in ("assistant", "gpt", "GPT", "bot", "model", "chatbot")],
        *[(name, "system") for name in ("system", "System", "developer")],
        *[(name, "tool") for name in ("tool", "observation", "tool_response", "ipython")],
    ],
)
def test_role_names_are_mapped(name: str, role: str, rows: Rows) -> None:
    row = {
        "prompt": [user("a"), {"role": name, "content": "b"}],
        "chosen": [bot("c")],
        "rejected": [bot("d")],
    }
    (record,) = read(rows(row)).records
    assert [turn["role"] for turn in plain(record.context)] == ["user", role]


def test_an_unknown_role_is_refused_by_name(rows: Rows) -> None:
    good = {"prompt": [user("a")], "chosen": [bot("c")], "rejected": [bot("d")]}
    bad = good | {"prompt": [user("a"), {"role": "narrator", "content": "b"}]}
    assert read(rows(good, bad)).ledger.refused == {
        "unknown role 'narrator'; use user, assistant, system or tool": 1
    }


def test_a_function_call_is_a_tool_call_of_the_assistant(rows: Rows) -> None:
    call = {"name": "river", "arguments": {"country": "Peru"}}
    turns = [human(ASK), {"from": "function_call", "value": json.dumps(call)}]
    row = {"conversations": [*turns, {"from": "observation", "value": "Ucayali"}], "chosen": gpt(GOOD)}
    (record,) = read(rows(row | {"rejected": gpt(BAD)})).records
    assert plain(record.context) == [
        user(ASK),
        bot("") | {"tool_calls": [CALL]},
        {"role": "tool", "content": "Ucayali"},
    ]


def test_calls_in_a_row_are_one_turn_and_a_broken_one_is_refused(rows: Rows) -> None:
    def row(*calls: str) -> dict[str, Any]:
        turns = [user(ASK), *({"role": "tool_call", "content": call} for call in calls)]
        return {
            "prompt": [*turns, {"role": "tool", "content": "x"}],
            "chosen": [bot("a")],
            "rejected": [bot("b")],
        }

    call = json.dumps({"name": "river", "arguments": json.dumps({"country": "Peru"})})
    data = read(rows(row(call, call), row("river(Peru)")))
    assert data.records[0].context[1].extra["tool_calls"] == [CALL, CALL]
    assert data.ledger.refused == {"a tool call is not JSON with name and arguments": 1}


# -- JSON inside a text ----------------------------------------------------------------------------------------------

DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'[{{"role": "user", "content": {DEEP}}}]', "nested more than 100 levels deep"),
        ('{"role": ' * 50000, "nested more than 100 levels deep"),
        ('[{"role": "user", "role": "assistant", "content": "x"}]', "a key occurs twice"),
    ],
)
def test_hostile_json_inside_a_text_is_one_rows_matter(text: str, reason: str, rows: Rows) -> None:
    good = {"prompt": "a question", "chosen": A, "rejected": B}
    data = read(rows(good, good | {"prompt": text}))
    assert data.ledger.read == 2 and data.ledger.refused == {reason: 1}


@pytest.mark.parametrize("call", ["[" * 100000, '{"name": "f", "arguments": ' + json.dumps(DEEP) + "}"])
def test_a_hostile_tool_call_is_refused_by_name(call: str, rows: Rows) -> None:
    def row(content: str) -> dict[str, Any]:
        return {
            "messages": [user("q"), {"role": "function_call", "content": content}],
            "rejected_response": B,
        }

    data = read(rows(row('{"name": "f"}'), row(call)))
    [reason] = data.ledger.refused
    assert reason in ("nested more than 100 levels deep", "a tool call is not JSON with name and arguments")
