"""Oracle check: known biases are measured as such, and what an oracle cannot say is counted, never guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from math import log, nan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.core.intervals import clustered_mean, jackknife
from equipoise.core.logistic import sigmoid, slope
from equipoise.data.errors import DataError
from equipoise.evaluate.oracle_check import Comparison, Comparisons, Wanted, check, measured
from equipoise.evaluate.oracle_check.accuracy import accuracy
from equipoise.evaluate.oracle_check.agreement import (
    agreement,
    both_ways,
    cohen_kappa,
    krippendorff_alpha,
    self_agreement,
)
from equipoise.evaluate.oracle_check.asked import Verdicts, ask, recorded
from equipoise.evaluate.oracle_check.calibration import calibration, confidences, ece, ece_of_noise
from equipoise.evaluate.oracle_check.cycles import cycles
from equipoise.evaluate.oracle_check.length import length_bias
from equipoise.evaluate.oracle_check.order import order_bias
from equipoise.evaluate.oracle_check.transitivity import transitivity
from equipoise.oracles import Asking, Checked, OracleError, Policy
from equipoise.oracles.questions.questioner import Failure
from equipoise.oracles.rules.rule_oracle import RuleOracle
from equipoise.report.oracle_check.run import oracle_check
from equipoise.run.screen import plain
from equipoise.run.screen.plain import PlainLines
from equipoise.worlds.text.progress import Progress

Answers = Sequence[tuple[str, str]]


def of_pairs(pairs: Answers, labels: Sequence[float], per_prompt: int = 1, **about: object) -> Comparisons:
    rows = [
        Comparison(
            prompt=f"prompt {k // per_prompt}",
            a=a,
            b=b,
            label=float(label),
            group=f"prompt {k // per_prompt}",
            at=str(k),
            **about,
        )
        for k, ((a, b), label) in enumerate(zip(pairs, labels, strict=True))
    ]
    return Comparisons(rows=rows, left_out={})


def named(count: int) -> Answers:
    return [(f"a{k}", f"b{k}") for k in range(count)]


def said(
    forth: Sequence[float], back: Sequence[float] | None = None, again: Sequence[float] = ()
) -> Verdicts:
    back = forth if back is None else back
    return Verdicts(
        name="o",
        fingerprint="o",
        forth=np.array(forth, float),
        back=np.array(back, float),
        again=np.array(again, float),
        asked={},
    )


def rule(function: Callable[..., float], **policy: object) -> Checked:
    return Checked(Asking(RuleOracle(function, "rule"), None, Policy(wait=0.0, **policy)))


def covers(interval: dict[str, float] | None, truth: float) -> bool:
    return interval is not None and interval["low"] <= truth <= interval["high"]


# accuracy -----------------------------------------------------------------------------------------


def test_accuracy_by_hand_with_ties_soft_labels_and_a_failure():
    """Right, wrong, tie of the oracle, no verdict, tie of the label, soft label of 3/4 met, and the soft one missed."""
    comparisons = of_pairs(named(7), [1, 1, 1, 1, 0.5, 0.75, 0.25])
    found = accuracy(comparisons, said([0.9, 0.2, 0.5, nan, 0.8, 0.6, 0.7]))
    assert found["accuracy"]["value"] == pytest.approx((1 + 0 + 0.5 + 0 + 1 + 0) / 6)
    assert found["strict"]["value"] == pytest.approx(2 / 6)
    assert found["answered"]["value"] == pytest.approx((1 + 0 + 0.5 + 1 + 0) / 5)
    assert found["expected"]["value"] == pytest.approx((1 + 0 + 0.5 + 0 + 0.5 + 0.75 + 0.25) / 7)
    assert found["ceiling"] == pytest.approx((4 + 0.5 + 0.75 + 0.75) / 7)
    assert (found["failed"], found["soft_labels"]) == (1, 2)
    assert found["ties"]["label"] == 1 and found["ties"]["both"] == 0
    assert found["ties"]["oracle_where_label_decides"]["value"] == pytest.approx(1 / 5)


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0.25, 0.5, 1]), st.sampled_from([0, 0.3, 0.5, 0.9, nan])), min_size=1
    )
)
def test_swapping_every_comparison_changes_no_figure_of_accuracy(rows):
    labels, probs = zip(*rows, strict=True)
    there = of_pairs(named(len(rows)), labels)
    back = of_pairs([(b, a) for a, b in named(len(rows))], [1 - label for label in labels])
    assert accuracy(there, said(probs)) == accuracy(back, said([1 - p for p in probs]))


# asking -------------------------------------------------------------------------------------------


def test_a_progress_line_counts_the_questions_and_is_silent_when_quiet(capsys, monkeypatch):
    monkeypatch.setattr(plain, "BRIEF", 0.0)
    comparisons = of_pairs([("a", "b"), ("d", "c")], [1, 1])
    check([rule(first_place)], comparisons, Wanted(fits=False), Progress(callbacks=[PlainLines()]))
    assert re.search(r"rule +4/4 questions", capsys.readouterr().err)
    check([rule(first_place)], comparisons, Wanted(fits=False), Progress(quiet=True))
    assert capsys.readouterr() == ("", "")


def test_weights_of_rows_are_left_aside_and_this_is_said(tmp_path):
    rows = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b", "weight": 1 + i} for i in range(3)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = oracle_check([rule(first_place)], [path], Wanted(fits=False))
    assert (
        "2 rows have a weight, which a check leaves aside: each comparison counts once" in report.ledger.notes
    )
    assert report.first["accuracy"]["accuracy"]["n"] == 3


def first_place(prompt: str, a: str, b: str) -> float:
    return 0.9 if a < b else 0.4


def test_both_orders_are_questions_of_their_own_and_not_averaged_before():
    comparisons = of_pairs([("a", "b"), ("d", "c")], [1, 1])
    found = ask(rule(first_place, both_orders=True), comparisons)
    assert found.forth.tolist() == [0.9, 0.4]
    assert found.back == pytest.approx([0.6, 0.1])
    assert found.asked["asked"] == 4


def test_a_failure_is_counted_and_a_total_failure_is_one_sentence():
    def often_fails(prompt: str, a: str, b: str) -> float:
        if prompt == "prompt 1":
            raise Failure("no answer", transient=False)
        return 1.0 if a < b else 0.0

    comparisons = of_pairs(named(4), [1, 1, 1, 1])
    found = ask(rule(often_fails), comparisons)
    assert found.answered.tolist() == [True, False, True, True]
    with pytest.raises(OracleError, match=r"none of 1 comparisons has a verdict.*no answer"):
        ask(
            rule(often_fails),
            of_pairs([("x", "y")] * 2, [1, 1], 2).__class__(rows=comparisons.rows[1:2], left_out={}),
        )


def test_asked_again_is_asked_anew_not_read_from_the_store():
    answers = iter([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])  # forth, back, then again, of two comparisons
    found = ask(rule(lambda prompt, a, b: next(answers)), of_pairs(named(2), [1, 1]), again=2)
    assert found.forth.tolist() == [1.0, 0.0] and found.again.tolist() == [0.0, 1.0]
    twice = self_agreement(of_pairs(named(2), [1, 1]), found)
    assert twice["same"]["value"] == 0.0 and twice["opposite"]["value"] == 1.0 and twice["moved"] == 1.0


def test_an_answer_out_of_range_is_refused_here_too():
    class Wrong:
        name = "wrong"

        def compare(self, prompts, a, b):
            return torch.full((len(a),), 1.5)

    with pytest.raises(OracleError, match=r"probability in \[0, 1\]"):
        ask(Checked(Wrong()), of_pairs(named(3), [1, 1, 1]))


# order --------------------------------------------------------------------------------------------


def test_order_bias_by_hand():
    """Agree; first place twice; second place; a tie in one order alone; no verdict in one order."""
    found = order_bias(
        of_pairs(named(5), [1] * 5), said([0.9, 0.9, 0.2, 0.5, 0.9], [0.7, 0.1, 0.8, 0.6, nan])
    )
    assert found["bias"]["value"] == pytest.approx((0.2 + 0.8 - 0.6 - 0.1) / 4)
    assert (found["first"], found["second"], found["n"]) == (1, 1, 4)
    assert found["position"]["value"] == pytest.approx(0.5)
    assert found["consistent"]["value"] == pytest.approx(0.25)
    assert not found["symmetric"]


def test_a_symmetric_oracle_has_no_order_bias_at_all():
    found = order_bias(
        of_pairs(named(9), [1] * 9), said(np.linspace(0.1, 0.9, 9), np.linspace(0.1, 0.9, 9) + 1e-9)
    )
    assert found["symmetric"] and found["bias"]["value"] == found["bias"]["high"] == 0.0


# coverage: what is planted lies within its interval -----------------------------------------------

REPEATS, LEAST = 100, 90


@pytest.mark.slow
def test_intervals_cover_a_planted_order_bias_length_weight_and_temperature():
    """Thirty prompts of 1 to 7 comparisons; the order bias of a prompt is shared by its comparisons."""
    generator = np.random.default_rng(5)
    hits = dict.fromkeys(("bias", "weight", "sharpness"), 0)
    weight, temperature, bias = 0.8, 2.5, 0.12
    for _ in range(REPEATS):
        groups = np.repeat(np.arange(30), generator.integers(1, 8, 30))
        count = len(groups)
        lengths = generator.integers(5, 200, size=(count, 2))
        pairs = [("x" * i, "y" * j) for i, j in lengths]
        difference = (lengths[:, 0] - lengths[:, 1]).astype(float)
        z = difference / np.sqrt(np.mean(difference**2))
        score = generator.normal(0, 1.2, count)
        label = (generator.random(count) < sigmoid(score)).astype(float)
        rows = of_pairs(pairs, label)
        rows = Comparisons(
            rows=[
                Comparison(**{**vars(row), "group": str(g)}) for row, g in zip(rows.rows, groups, strict=True)
            ],
            left_out={},
        )
        verdict = (generator.random(count) < sigmoid(weight * z)).astype(float)
        hits["weight"] += covers(length_bias(rows, said(verdict))["oracle"], weight)
        sure = sigmoid(temperature * score)
        odds = np.log(sure / (1 - sure))
        hits["sharpness"] += covers(
            jackknife(lambda r, x=odds, y=label: slope(x[r], y[r]), groups), 1 / temperature
        )
        lean = generator.normal(0, 0.3, 30)[groups]
        middle = generator.uniform(0.3, 0.7, count)
        shift = bias / 2 + 0.1 * np.tanh(lean)
        hits["bias"] += covers(order_bias(rows, said(middle + shift, middle - shift))["bias"], bias)
    assert min(hits.values()) >= LEAST, hits


def triples(generator: np.random.Generator, prompts: int, cyclic: float) -> tuple[Comparisons, list[float]]:
    """Four answers a prompt, of which three are in a circle with this chance; a fourth that always loses."""
    pairs, probs, groups = [], [], []
    for x in range(prompts):
        circle = generator.random() < cyclic
        for i, j in combinations(range(4), 2):
            pairs.append((f"{x} {i}", f"{x} {j}"))
            groups.append(str(x))
            probs.append(0.2 if circle and (i, j) == (0, 2) else 0.8)
    rows = [
        Comparison(prompt=g, a=a, b=b, label=1.0, group=g, at="")
        for (a, b), g in zip(pairs, groups, strict=True)
    ]
    return Comparisons(rows=rows, left_out={}), probs


def test_intervals_cover_a_planted_share_of_cycles():
    """One triple of the four of a prompt is in a circle with probability 0.4: a share of 0.1."""
    generator = np.random.default_rng(1)
    found = [cycles(*triples(generator, 40, 0.4)) for _ in range(REPEATS)]
    assert sum(covers(each["cyclic"], 0.1) for each in found) >= LEAST
    assert all(each["triples"] == 160 for each in found)


# cycles -------------------------------------------------------------------------------------------


def three(p12: float, p23: float, p31: float) -> tuple[Comparisons, list[float]]:
    return of_pairs([("r", "s"), ("s", "p"), ("p", "r")], [1, 1, 1], 3), [p12, p23, p31]


def test_rock_paper_scissors_is_a_cycle_and_its_own_probabilities_say_how_often():
    found = cycles(*three(0.9, 0.8, 0.7))
    assert (found["cycles"], found["triples"]) == (1, 1)
    assert found["expected"]["own"] == pytest.approx(0.9 * 0.8 * 0.7 + 0.1 * 0.2 * 0.3)
    assert cycles(*three(0.9, 0.8, 0.3))["cycles"] == 0


def test_ties_and_failures_are_no_triples_and_are_counted():
    assert (found := cycles(*three(0.9, 0.5, 0.9)))["tied"] == 1 and found["triples"] == 0
    assert (found := cycles(*three(0.9, nan, 0.9)))["failed"] == 1 and found["cyclic"] is None
    assert cycles(of_pairs(named(3), [1, 1, 1]), np.array([0.9, 0.9, 0.9])) is None


def test_flipped_verdicts_of_a_true_order_make_as_many_cycles_as_expected():
    """Each verdict flipped with e = 0.2: two questions disagree 2 e (1 - e) = 0.32 of the time, cycles e (1 - e)."""
    generator = np.random.default_rng(3)
    rows, _ = triples(generator, 3000, 0.0)
    flipped = np.where(generator.random(len(rows)) < 0.2, 0.0, 1.0)
    found = cycles(rows, flipped, flips=0.32)
    assert found["expected"]["flips"] == pytest.approx(0.16)
    assert found["cyclic"]["value"] == pytest.approx(0.16, abs=0.01)


# agreement ----------------------------------------------------------------------------------------


def test_cohens_kappa_by_hand():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p_o = 0.7, p_e = 0.5, kappa = 0.4."""
    one = np.repeat([1.0, 1, -1, -1, nan], [20, 5, 10, 15, 3])
    two = np.repeat([1.0, -1, 1, -1, 1], [20, 5, 10, 15, 3])
    assert cohen_kappa(one, two) == pytest.approx(0.4)


def test_cohens_kappa_does_not_depend_on_which_answer_the_data_put_first():
    """Labels that always prefer the first answer leave chance agreement 1 unless both orders count."""
    label, oracle = np.ones(10), np.repeat([1.0, -1.0, 0.0], [7, 2, 1])
    assert np.isclose(cohen_kappa(label, oracle), 0)
    flips = np.where(np.arange(10) % 2, 1, -1)
    both = cohen_kappa(both_ways(label), both_ways(oracle))
    assert both == pytest.approx(cohen_kappa(both_ways(label * flips), both_ways(oracle * flips)))
    assert both == pytest.approx((0.7 - 0.45) / 0.55)  # the label never ties: p_e = 2 * 1/2 * 0.9/2


def test_krippendorffs_alpha_by_hand():
    """Krippendorff's own example of four observers and twelve units, nominal: 0.743."""
    data = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
    assert krippendorff_alpha(np.array(data)) == pytest.approx(0.743, abs=5e-4)


def test_alpha_of_two_raters_by_hand():
    """Two raters, 4 units, one disagreement: n = 8, n_c = (5, 3), D_o = 2/8, D_e = 2*15/56."""
    assert krippendorff_alpha(np.array([[1, 1, 1, 0], [1, 1, 0, 0.0]])) == pytest.approx(1 - 0.25 / (30 / 56))


def test_agreement_names_every_two_raters_and_the_alpha_of_three():
    rows = of_pairs(named(6), [1, 1, 1, 0, 0, 0])
    labels = recorded(rows, rows.label.tolist(), "labels")
    opposite = recorded(rows, (1 - rows.label).tolist(), "opposite")
    found = agreement(rows, [labels, labels, opposite])
    assert [p["correlation"]["value"] for p in found["pairs"]] == pytest.approx([1, -1, -1])
    assert [p["kappa"]["value"] for p in found["pairs"]] == pytest.approx([1, -1, -1])
    assert found["alpha"]["value"] < 0
    assert agreement(rows, [labels, labels])["alpha"] is None


# length and calibration ---------------------------------------------------------------------------


def test_a_length_rule_has_the_length_weight_of_its_own_scale():
    """P = sigma(difference/10): w = s/10 with s the root mean squared difference, exactly."""
    generator = np.random.default_rng(2)
    pairs = [("x" * i, "y" * j) for i, j in generator.integers(1, 60, size=(80, 2))]
    difference = np.array([len(a) - len(b) for a, b in pairs], float)
    rows = of_pairs(pairs, generator.integers(0, 2, 80))
    found = length_bias(rows, said(sigmoid(difference / 10)))
    assert found["oracle"]["value"] == pytest.approx(found["unit"] / 10)
    assert found["unit"] == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert found["longer_wins"]["value"] == 1.0
    assert found["excess"]["value"] == pytest.approx(found["oracle"]["value"] - found["label"]["value"])


def test_verdicts_that_length_decides_without_exception_have_no_finite_weight():
    rows = of_pairs([("xx", "y"), ("x", "yy"), ("xxx", "y"), ("aa", "bb")], [1, 0, 0, 1])
    found = length_bias(rows, said([1, 0, 1, 0.5]))
    assert found["oracle"] is None and found["excess"] is None
    assert found["longer_wins"]["value"] == 1.0 and found["equal_lengths"] == 1


def test_calibration_by_hand():
    """Verdicts 0.9 (right), 0.9 (wrong), 0.2 (right): q = 0.9, 0.9, 0.8; bins [0.9, 0.95) and [0.8, 0.85)."""
    rows = of_pairs(named(3), [1, 0, 0])
    found = calibration(rows, said([0.9, 0.9, 0.2]))
    assert found["ece"] == pytest.approx((2 * 0.4 + 1 * 0.2) / 3)
    assert found["brier"]["value"] == pytest.approx((0.01 + 0.81 + 0.04) / 3)
    assert found["log_loss"]["value"] == pytest.approx(-(log(0.9) + log(0.1) + log(0.8)) / 3)
    assert [b["n"] for b in found["bins"]] == [1, 2]


def test_always_one_half_is_calibrated_and_certain_verdicts_are_counted():
    rows = of_pairs(named(4), [1, 1, 0, 0])
    assert calibration(rows, said([0.5] * 4))["ece"] == 0.0
    assert calibration(rows, said([1, 0.7, 0, 0.3]))["certain"] == 2


def test_the_ece_of_noise_is_what_a_calibrated_oracle_shows():
    generator = np.random.default_rng(3)
    prob = generator.uniform(0.01, 0.99, 300)
    seen = [ece(*confidences(prob, (generator.random(300) < prob).astype(float))) for _ in range(100)]
    assert ece_of_noise(np.maximum(prob, 1 - prob), 0) == pytest.approx(np.mean(seen), rel=0.1)


def test_temperature_scaling_mends_the_log_loss_of_an_oracle_that_is_too_sure():
    generator = np.random.default_rng(4)
    score = generator.normal(0, 1.5, 1500)
    rows = of_pairs(named(1500), (generator.random(1500) < sigmoid(score)).astype(float))
    found = calibration(rows, said(sigmoid(3 * score)))
    assert covers(found["temperature"], 3.0)
    assert found["log_loss_cooled"]["value"] < found["log_loss"]["value"]
    back = calibration(rows, said(sigmoid(-score)))
    assert back["temperature"] is None and back["sharpness"]["value"] < 0


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.05, 0.95)), min_size=2, max_size=30))
def test_the_slope_is_a_stationary_point_and_does_not_depend_on_the_orientation(rows):
    x, target = (np.array(column) for column in zip(*rows, strict=True))
    w = slope(x, target)
    if not np.isfinite(w) or np.abs(x).max() < 1e-3:
        return
    assert abs(np.sum(x * (target - sigmoid(w * x)))) < 1e-6 * len(rows)
    flips = np.where(np.arange(len(x)) % 2, 1, -1)
    assert slope(x * flips, np.where(flips > 0, target, 1 - target)) == pytest.approx(w, abs=1e-6)


# one score per player, or not ---------------------------------------------------------------------


def tournament(
    generator: np.random.Generator, table: np.ndarray, prompts: int
) -> tuple[Comparisons, np.ndarray]:
    players = range(len(table))
    rows, probs = [], []
    for x in range(prompts):
        for i, j in combinations(players, 2):
            rows.append(
                Comparison(
                    prompt=f"{x}",
                    a=f"{x} {i}",
                    b=f"{x} {j}",
                    label=1.0,
                    group=f"{x}",
                    at="",
                    writers=(f"system {i}", f"system {j}"),
                )
            )
            probs.append(float(generator.random() < table[i, j]))
    return Comparisons(rows=rows, left_out={}), np.array(probs)


@pytest.mark.slow
def test_systems_in_a_circle_need_more_than_a_score_and_ranked_ones_do_not():
    """Rock, paper, scissors at 0.85: a score predicts 1/2, whose log-loss is log 2; the truth's is 0.4227."""
    generator = np.random.default_rng(0)
    circle = np.array([[0.5, 0.85, 0.15], [0.15, 0.5, 0.85], [0.85, 0.15, 0.5]])
    found = transitivity(*tournament(generator, circle, 60))
    truth = -(0.85 * log(0.85) + 0.15 * log(0.15))
    assert found["players"].startswith("writers")
    assert found["gain"]["general"]["low"] > 0.1
    assert covers(found["log_loss"]["general"], truth) and covers(found["log_loss"]["bradley_terry"], log(2))
    strength = np.array([1.0, 0.0, -0.7, 0.4])
    ranked = sigmoid(strength[:, None] - strength[None])
    found = transitivity(*tournament(generator, ranked, 60))
    assert found["gain"]["general"]["low"] < 0.002
    assert covers(
        found["log_loss"]["bradley_terry"],
        np.mean([-(p * log(p) + (1 - p) * log(1 - p)) for p in ranked[np.triu_indices(4, 1)]]),
    )


def test_without_writers_the_responses_of_a_prompt_are_the_players():
    """A prompt's six comparisons by a score, its fold held out: the others say who is better."""
    strength = np.array([4.0, 2.0, 0.0, -2.0, -4.0])
    rows, _ = tournament(np.random.default_rng(0), sigmoid(strength[:, None] - strength[None]), 2)
    rows = Comparisons(rows=[Comparison(**{**vars(row), "writers": None}) for row in rows.rows], left_out={})
    probs = sigmoid(
        np.array([strength[i] - strength[j] for _ in range(2) for i, j in combinations(range(5), 2)])
    )
    found = transitivity(rows, probs)
    assert found["players"].startswith("responses")
    assert found["n"] + found["left_out"] == 20
    assert found["accuracy"]["bradley_terry"]["value"] > 0.7
    assert "table" not in found["gain"]
    assert transitivity(of_pairs(named(5), [1] * 5), np.ones(5)) is None


# the jackknife ------------------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_the_clustered_interval():
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(40), 3)
    values = generator.normal(size=120) + np.repeat(generator.normal(size=40), 3)
    one, two = jackknife(lambda rows: float(values[rows].mean()), clusters), clustered_mean(values, clusters)
    assert [one[k] for k in ("value", "low", "high")] == pytest.approx(
        [two[k] for k in ("value", "low", "high")]
    )


def test_the_jackknife_has_no_interval_without_spread_or_without_a_number():
    assert jackknife(lambda rows: 1.0, ["p"] * 4)["low"] is None
    assert jackknife(lambda rows: 0.0 if len(rows) == 4 else nan, [1, 2, 3, 4])["low"] is None
    with pytest.raises(ValueError, match="two groups"):
        jackknife(lambda rows: 1.0, [1, 2], groups=1)


# the whole ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_whole_check_has_every_section_and_two_oracles_of_one_name_keep_apart():
    generator = np.random.default_rng(0)
    pairs = [("word " * i, "word " * j) for i, j in generator.integers(1, 30, size=(40, 2))]
    rows = of_pairs([(a, b + ".") for a, b in pairs], generator.integers(0, 2, 40), 2)
    length = rule(lambda prompt, response: len(response) / 20)
    found = check([length, length], rows, Wanted(again=5))
    assert [oracle["name"] for oracle in found["oracles"]] == ["rule", "rule (2)"]
    assert [p["kappa"]["value"] for p in found["agreement"]["pairs"]][2] == pytest.approx(1.0)
    assert set(found["dissection"]["raters"]) == {"labels", "rule", "rule (2)"}
    assert found["oracles"][0]["self_agreement"]["same"]["value"] == 1.0
    assert measured(rows, [said(rows.label)], Wanted(fits=False))["dissection"] is None


def test_an_annotation_without_columns_is_refused():
    with pytest.raises(DataError, match="chosen_clarity"):
        check(
            [rule(lambda prompt, response: 0.0)], of_pairs(named(40), [1] * 40), Wanted(annotated=["clarity"])
        )
