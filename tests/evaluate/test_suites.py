"""Files of public suites: read, scored by hand-made numbers, written and read again, refused with file and line."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
import torch

from equipoise.core.intervals import clustered_share
from equipoise.data.errors import DataError
from equipoise.evaluate.length_control import GAMED_WEIGHT
from equipoise.evaluate.recorded import evaluate_recorded, kind_of
from equipoise.evaluate.suites import alpaca_eval, arena_hard, mt_bench, reward_bench
from equipoise.oracles.protocol import OracleError


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def annotations(preferences, candidate="model"):
    return [
        {
            "instruction": f"task {k}", "output_1": "b" * (10 + k % 7), "generator_1": "base",
            "output_2": "c" * (10 + k % 5), "generator_2": candidate, "annotator": "judge", "preference": p,
        }
        for k, p in enumerate(preferences)
    ]  # fmt: skip


def test_alpaca_eval_codes_preferences_as_the_benchmark_does(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations([2, 1, 1.5, 0, None, 1.75, 2, 1.2])))
    read = alpaca_eval.read_annotations(path)
    assert read.prob[[0, 1, 2, 3, 5]].tolist() == [1, 0, 0.5, 0.5, 0.75] and math.isnan(read.prob[4])
    got = alpaca_eval.figures(read, draws=10)
    prob = np.array([1, 0, 0.5, 0.5, 0.75, 1, 0.2])
    assert got.win_rate == pytest.approx(clustered_share(prob, range(7)))
    assert got.standard_error == pytest.approx(prob.std(ddof=1) / math.sqrt(7))
    assert (got.wins, got.losses, got.draws, got.failed) == (3, 2, 2, 1)
    assert got.discrete == pytest.approx(4 / 7) and got.controlled.form == "minimal"


def test_alpaca_eval_annotations_and_leaderboard_survive_writing(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations([2, 1, 1.5, None, 1.25] * 4)))
    read = alpaca_eval.read_annotations(path)
    again = alpaca_eval.read_annotations(alpaca_eval.write_annotations(tmp_path / "again.json", read))
    assert np.array_equal(read.prob, again.prob, equal_nan=True)
    assert (read.instructions, read.candidate, read.annotator) == (again.instructions, "model", "judge")
    row = alpaca_eval.figures(read, draws=5).board_row()
    board = alpaca_eval.read_leaderboard(alpaca_eval.write_leaderboard(tmp_path / "b.csv", {"model": row}))
    assert float(board["model"]["win_rate"]) == pytest.approx(row["win_rate"])
    assert (tmp_path / "b.csv").read_text().splitlines()[0] == "," + ",".join(alpaca_eval.BOARD)


def test_alpaca_eval_baseline_against_itself_is_one_half(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations([1.5] * 12, candidate="base")))
    got = alpaca_eval.figures(alpaca_eval.read_annotations(path))
    assert (got.win_rate["value"], got.controlled.value) == (0.5, 0.5)


def test_alpaca_eval_difficulties_with_gamed_rows(tmp_path):
    path = tmp_path / "df_gamed.csv"
    path.write_text(
        "index,model,preference,std_delta_len,instruction_difficulty,not_gamed_baseline\n"
        + "".join(f"{k},verbose,0.6,-1.5,{k / 10},False\n" for k in range(20))
        + "".join(f"{k},concise,0.3,1.5,{k / 10},False\n" for k in range(20))
    )
    read = alpaca_eval.read_difficulty(path)
    assert read.gamma[7] == 0.7 and len(read.gamed.prob) == 40 and pytest.approx(0.1) == GAMED_WEIGHT
    judged = tmp_path / "annotations.json"
    judged.write_text(json.dumps(annotations([1.9, 1.2] * 10)))
    assert alpaca_eval.figures(alpaca_eval.read_annotations(judged), read, draws=5).controlled.form == "full"
    alone = tmp_path / "instruction_difficulty.csv"
    alone.write_text(",instruction_difficulty\n" + "".join(f"{k},{k / 10}\n" for k in range(20)))
    found = alpaca_eval.read_difficulty(alone)
    assert found.gamed is None and found.gamma == read.gamma


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("index,instruction_difficulty\ninf,1\n", r"d\.csv:2: not a number"),
        ("index,instruction_difficulty\n0,one\n", r"d\.csv:2: not a number"),
        ("index,instruction_difficulty\n0,nan\n", "not finite"),
        ("index,other\n0,1\n", "no difficulties"),
        ("", "no difficulties"),
        ("index,instruction_difficulty\n0," + "1" * 200_000, "no CSV"),
    ],
)
def test_difficulties_that_cannot_be_used_are_one_sentence(tmp_path, text, why):
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=why):
        alpaca_eval.read_difficulty(path)


def test_a_table_that_may_never_end_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (alpaca_eval.read_difficulty, alpaca_eval.read_leaderboard):
        with pytest.raises(DataError, match="not a regular file"):
            read(tmp_path / "pipe")
        with pytest.raises(DataError, match="no such file"):
            read(tmp_path / "none")


def test_arena_hard_verdicts_of_both_orders(tmp_path):
    """The baseline is A in the first game and B in the second."""
    rows = [
        {"question_id": "q1", "model": "m", "judge": "j", "games": [{"score": "B>>A"}, {"score": "A>B"}]},
        {"question_id": "q2", "model": "m", "judge": "j", "games": [{"score": "A=B"}, {"score": "B>A"}]},
        {"question_id": "q3", "model": "m", "judge": "j", "games": [{"score": None}, {"score": "A>B"}]},
    ]
    judgments = arena_hard.read_judgments(lines(tmp_path / "m.jsonl", rows))
    assert judgments[0].baseline == "gpt-4-0314"
    made, failed = arena_hard.battles(judgments)
    assert failed == 1
    assert list(zip(made.prob, made.weight, strict=True)) == [(1, 3), (1, 1), (0.5, 1), (0, 1)]
    result = evaluate_recorded([tmp_path / "m.jsonl"])["categories"]["all"]
    assert result["scores"][0]["score"]["value"] == pytest.approx(4.5 / 6)
    best = result["ratings"][0]
    assert best["win_rate"]["value"] == pytest.approx(4.5 / 6, abs=1e-6)
    assert best["rating"] == pytest.approx(1000 + 400 * math.log10(3), abs=0.01)


def test_arena_hard_2_keeps_categories_apart_and_survives_writing(tmp_path):
    rows = [
        {"uid": f"u{k}", "category": category, "judge": "j", "model": "m", "baseline": base,
         "games": [{"score": first}, {"score": second}]}
        for k, (category, base, first, second) in enumerate([
            ("hard_prompt", "o3", "B>A", "A>B"), ("creative_writing", "gemini", "A>B", "B>A"),
            ("hard_prompt", "o3", "A=B", "A=B"),
        ])
    ]  # fmt: skip
    judgments = arena_hard.read_judgments(lines(tmp_path / "m.jsonl", rows))
    assert arena_hard.read_judgments(arena_hard.write_judgments(tmp_path / "n.jsonl", judgments)) == judgments
    result = evaluate_recorded([tmp_path / "m.jsonl"])["categories"]
    assert {name: one["scores"][0]["score"]["value"] for name, one in result.items()} == {
        "hard_prompt": 0.75, "creative_writing": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("prob", "said"), [(1, "A>>B"), (0.7, "A>B"), (0.5, "A=B"), (0.3, "B>A"), (0, "B>>A")]
)
def test_arena_hard_labels_of_probabilities_mirror(prob, said):
    assert arena_hard.label(prob) == said
    other = arena_hard.label(1 - prob)
    assert arena_hard.VERDICTS[other] == (1 - arena_hard.VERDICTS[said][0], arena_hard.VERDICTS[said][1])


def test_mt_bench_pairs_win_only_where_both_orders_agree(tmp_path):
    outcomes = [
        ("model_1", "model_1"),
        ("model_1", "model_2"),
        ("tie", "tie"),
        ("model_2", "model_2"),
        ("error", "tie"),
    ]
    rows = [
        {"question_id": 81 + k, "model_1": "m", "model_2": "base", "g1_winner": a, "g2_winner": b,
         "judge": ["gpt-4", "pair-v2"], "turn": 1}
        for k, (a, b) in enumerate(outcomes)
    ]  # fmt: skip
    path = lines(tmp_path / "pair.jsonl", rows)
    matches = mt_bench.read_matches(path)
    (own,) = mt_bench.matched(matches, "base")
    assert (own.wins, own.losses, own.ties) == (1, 1, 2)
    assert (own.win_rate["value"], own.adjusted["value"]) == (0.25, 0.5)
    assert mt_bench.agreement(matches)["value"] == 0.75
    assert mt_bench.read_matches(mt_bench.write_matches(tmp_path / "again.jsonl", matches)) == matches
    assert evaluate_recorded([path], baseline="base")["failed"] == 1


def test_mt_bench_grades_leave_failed_ones_out(tmp_path):
    rows = [
        {"question_id": q, "model": "m", "judge": ["gpt-4", "single-v1"], "score": score, "turn": turn}
        for q, turn, score in [(81, 1, 8), (81, 2, 6), (82, 1, 10), (82, 2, -1)]
    ]
    grades = mt_bench.read_grades(lines(tmp_path / "single.jsonl", rows))
    (own,) = mt_bench.graded(grades)
    assert (own.mean["value"], own.turns[1]["value"], own.turns[2]["value"], own.failed) == (8, 9, 6, 1)
    assert mt_bench.read_grades(mt_bench.write_grades(tmp_path / "again.jsonl", grades)) == grades


class Scores:
    """An oracle whose score is a number in the answer's text."""

    name = "numbers"

    def score(self, prompts, responses):
        return torch.tensor([float(text.split()[-1]) for text in responses], dtype=torch.float64)

    def compare(self, prompts, a, b):
        first, second = self.score(prompts, a), self.score(prompts, b)
        return (first > second).double() + 0.5 * (first == second).double()


class Compares(Scores):
    name = "pairs"

    def score(self, prompts, responses):
        raise OracleError("a general preference: it compares")

    def compare(self, prompts, a, b):
        return Scores().compare(prompts, a, b)


def first_version(rows):
    return [
        {"prompt": "q", "chosen": f"answer {right}", "rejected": f"answer {wrong}", "subset": subset, "id": k}
        for k, (subset, right, wrong) in enumerate(rows)
    ]


@pytest.mark.parametrize("oracle", [Scores(), Compares()], ids=["scores", "compares"])
def test_reward_bench_1_weighs_subsets_and_sections(tmp_path, oracle):
    rows = [
        ("alpacaeval-easy", 2, 1), ("alpacaeval-easy", 1, 1),  # a tie is wrong: 1/2, counts for 100
        ("mt-bench-easy", 2, 1),  # 1, counts for 28
        ("math-prm", 1, 2), ("hep-cpp", 2, 1),  # 0 for 984, 1 for 164
        ("shp", 2, 1), ("shp", 1, 2),  # prior: 1/2 with half of the weight
    ]  # fmt: skip
    items = reward_bench.read_items(lines(tmp_path / "rb.jsonl", first_version(rows)))
    got = reward_bench.benchmarked(items, oracle)
    chat, reasoning = (100 * 0.5 + 28) / 128, 164 / 1148
    assert got.sections == pytest.approx({"Chat": chat, "Reasoning": reasoning, "Prior": 0.5})
    assert got.overall == pytest.approx((2 * chat + 2 * reasoning + 0.5) / 5)
    assert got.missing == ("Chat Hard", "Safety") and got.version == 1


def second_version(subset, right, wrong, name="0"):
    return {
        "prompt": "q", "chosen": [f"a {s}" for s in right], "rejected": [f"a {s}" for s in wrong],
        "subset": subset, "id": name,
    }  # fmt: skip


def test_reward_bench_2_is_best_of_four_with_a_share_for_equal_best_scores(tmp_path):
    rows = [
        second_version("Math", [4], [1, 2, 3]),
        second_version("Math", [1], [2, 0, 0]),
        second_version("Focus", [3], [3, 1, 1]),
        second_version("Focus", [3], [1, 1, 1]),
    ]
    got = reward_bench.benchmarked(reward_bench.read_items(lines(tmp_path / "rb.jsonl", rows)), Scores())
    assert got.sections == {"Math": 0.5, "Focus": 0.75}
    assert (got.overall, got.strict, got.version) == (0.625, 0.5, 2)
    constant = reward_bench.by_scores(reward_bench.read_items(tmp_path / "rb.jsonl"), [np.ones(4)] * 4)
    assert (constant.overall, constant.strict) == (0.25, 0)


def test_reward_bench_2_ties_by_hand(tmp_path):
    rows = [
        second_version("Ties", [5], [1, 2], "ref:0"),  # gap 3
        second_version("Ties", [6, 5, 4], [2, 1], "tied:0"),  # spread 2, gap 2
        second_version("Ties", [1], [2, 0], "ref:1"),  # wrong: gap -1
        second_version("Ties", [4, 3], [1, 0], "tied:1"),  # spread 1, gap 2
    ]
    items = reward_bench.read_items(lines(tmp_path / "rb.jsonl", rows))
    margin = (math.tanh(2 / 2 - 1) + math.tanh(-1 / 1 - 1)) / 2
    expected = 0.3 * 1 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0 + 0.01 * margin
    assert reward_bench.benchmarked(items, Scores()).sections["Ties"] == pytest.approx(expected)
    shifted = [3 * s - 7 for s in reward_bench.scores_of(items, Scores())]
    assert reward_bench.by_scores(items, shifted).overall == pytest.approx(expected)


def test_an_answer_without_a_score_is_never_right(tmp_path):
    items = reward_bench.read_items(lines(tmp_path / "rb.jsonl", first_version([("math-prm", 2, 1)] * 2)))
    got = reward_bench.by_scores(items, [np.array([np.nan, 1.0]), np.array([1.0, np.nan])])
    assert (got.overall, got.failed) == (0, 2)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (annotations([1.5, 3]), r"bad\.jsonl:2: a preference is 1 to 2, or 0 for a tie, and this is 3"),
        (annotations([1.5]) + annotations([1.5], "other"), "several values of `generator_2`: model, other"),
        (
            [{"question_id": 1, "model": "m", "games": [{"score": "A"}, {"score": "A>B"}]}],
            "verdict 'A' is none of",
        ),
        ([{"question_id": 1, "model": "m", "games": []}], "`games` must hold two games"),
        (
            [{"question_id": 1, "model": "m", "score": "x", "turn": 1}],
            r"bad\.jsonl:1: `score` must be a number",
        ),
        (
            [{"question_id": 1, "model_1": "a", "model_2": "b", "g1_winner": "a", "g2_winner": "tie"}],
            "winner 'a' is none of",
        ),
        (first_version([("mine", 1, 0)]), "RewardBench's items are not judged yet"),
        (
            [{"question_id": 1, "model": "m", "games": [{"score": None}, {"score": None}]}],
            "no question has verdicts",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_their_line(tmp_path, rows, says):
    path = lines(tmp_path / "bad.jsonl", rows)
    assert kind_of(path)
    with pytest.raises(DataError, match=says):
        evaluate_recorded([path])


def test_files_of_several_kinds_are_refused(tmp_path):
    one = lines(tmp_path / "a.jsonl", annotations([1.5]))
    other = lines(tmp_path / "b.jsonl", first_version([("shp", 1, 0)]))
    with pytest.raises(
        DataError, match=r"not of one kind: .*a\.jsonl: alpaca_eval annotations, .*reward_bench"
    ):
        evaluate_recorded([one, other])
