"""Each rule fires exactly on the case it was written for, and stays silent on a run that goes well."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from equipoise.report.run.diagnose import RULES, diagnose
from equipoise.report.run.explain import EXPLANATIONS
from equipoise.report.run.load import load_run
from equipoise.report.run.verdict import verdict

GOOD = {("good", "win-rate"), ("good", "exploitability"), ("good", "held-out-accuracy")}


def estimate(value: float, half: float = 0.04) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 400}


def ledger(**changes: Any) -> dict[str, Any]:
    return {"read": 1000, "used": 1000, "refused": {}, "truncated": 0, "duplicate": 0, "notes": []} | changes


def after(value: Any, before: Any = None) -> Callable[[int], Any]:
    """`before` at the reference, `value` in later rounds."""
    return lambda r: value if r else before


def test_a_run_that_goes_well(make_run) -> None:
    findings = diagnose(load_run(make_run(3)))
    assert {(f.level, f.anchor) for f in findings} == GOOD
    assert verdict(load_run(make_run(3, name="b"))) == (
        "After 3 rounds the policy beats its reference (win rate 71.8 %, 95 % interval 67.8 % to 75.8 %)"
        " and is less exploitable than before (0.412 → 0.0296)."
    )


# What is changed in a good run; the finding it must cause, with words of its sentence; findings it removes.
CASES: dict[str, tuple[dict[str, Any], tuple[str, str], str]] = {
    "win rate includes one half": (
        {"win_rate": after(estimate(0.52), estimate(0.5))},
        ("note", "win-rate"),
        "52.0 %",
    ),
    "win rate below": ({"win_rate": after(estimate(0.42))}, ("warning", "win-rate"), "below one half"),
    "one cluster": ({"win_rate": after({"value": 0.6})}, ("note", "win-rate"), "too few prompts"),
    "exact win rate alone": (
        {"win_rate": after(None), "exact_win_rate": after(0.4)},
        ("warning", "win-rate"),
        "exact win rate against the reference is 40.0 %",
    ),
    "gap rose": (
        {"exploitability": after(0.5, 0.4)},
        ("warning", "exploitability"),
        "rose from 0.400 to 0.500",
    ),
    "gap stayed": ({"exploitability": after(0.41, 0.4)}, ("note", "exploitability"), "hardly moved"),
    "gap closed": ({"exploitability": after(0.0, 0.4)}, ("good", "exploitability"), "to 0 exactly"),
    "displacement": (
        {"chosen_log_ratio": after(-3.0, 0.0), "rejected_log_ratio": after(-8.0, 0.0)},
        ("warning", "likelihood-displacement"),
        "lost 3.00 nats of log-probability (held out), while the margin over rejected ones rose by 5.00",
    ),
    "longer": (
        {"length": after(estimate(12.0), estimate(10.0))},
        ("warning", "length-drift"),
        "20.0 % longer",
    ),
    "shorter": (
        {"length": after(estimate(8.0), estimate(10.0))},
        ("warning", "length-drift"),
        "20.0 % shorter",
    ),
    "far": (
        {"kl": after(estimate(12.0)), "length": after(estimate(100), estimate(99))},
        ("note", "large-kl"),
        "0.120 per",
    ),
    "far per token": (
        {"kl": after(estimate(8.0)), "length": after(estimate(10), estimate(10))},
        ("warning", "large-kl"),
        "8.00 nats per response",
    ),
    "accuracy": ({"accuracy": after(estimate(0.52))}, ("note", "held-out-accuracy"), "includes one half"),
    "accuracy below": (
        {"accuracy": after(estimate(0.4))},
        ("warning", "held-out-accuracy"),
        "worse than chance",
    ),
    "ranks more": (
        {"ranking": after(estimate(0.8), estimate(0.5)), "ranking_gain": after(estimate(0.3))},
        ("good", "held-out-ranking"),
        "80.0 % have the preferred response as the more likely one, 50.0 % under the reference; 95 % interval of the "
        "difference: +26.0, +34.0 points",
    ),
    "ranks as before": (
        {"ranking": after(estimate(0.51), estimate(0.5)), "ranking_gain": after(estimate(0.01))},
        ("note", "held-out-ranking"),
        "−3.0, +5.0 points, which includes 0",
    ),
    "ranks fewer": (
        {"ranking": after(estimate(0.4), estimate(0.5)), "ranking_gain": after(estimate(-0.1))},
        ("warning", "held-out-ranking"),
        "−14.0, −6.0 points",
    ),
    "unfinished": (
        {"finished": after(0.8, 0.97)},
        ("warning", "unfinished-responses"),
        "from 3.0 % to 20.0 %",
    ),
    "outside": ({"outside": after(0.3, 0.01)}, ("warning", "outside-the-game"), "from 1.0 % to 30.0 %"),
}


@pytest.mark.parametrize("case", CASES)
def test_rules_on_rounds(make_run, lines, case: str) -> None:
    changes, (level, anchor), words = CASES[case]
    findings = diagnose(load_run(make_run(3, evaluation=lines["evaluation"](3, **changes))))
    (found,) = [f for f in findings if f.anchor == anchor]
    assert found.level == level
    assert words in found.sentence
    assert {(f.level, f.anchor) for f in findings} - {(level, anchor)} <= GOOD


STEP_CASES: dict[str, tuple[dict[str, Any], tuple[str, str], str]] = {
    "saturated": ({"saturated": lambda r, i: 0.9}, ("note", "saturated-pairs"), "90.0 % of pairs"),
    "loss": ({"loss": lambda r, i: 0.7 + 0.001 * i}, ("warning", "loss-did-not-fall"), "In 3 of 3 rounds"),
    "clipped": (
        {"grad_norm": lambda r, i: 5.0 if i % 4 else 0.5},
        ("note", "gradient-clipping"),
        "75.0 % of 180",
    ),
    "not finite": (
        {"grad_norm": lambda r, i: float("inf") if i == 7 else 0.5},
        ("warning", "not-finite"),
        "3 of 180 steps are affected; the first is step 8, by its gradient norm",
    ),
}


@pytest.mark.parametrize("case", STEP_CASES)
def test_rules_on_steps(make_run, lines, case: str) -> None:
    changes, (level, anchor), words = STEP_CASES[case]
    findings = diagnose(load_run(make_run(3, metrics=lines["metrics"](3, **changes))))
    (found,) = [f for f in findings if f.anchor == anchor]
    assert found.level == level
    assert words in found.sentence
    assert {(f.level, f.anchor) for f in findings} - {(level, anchor)} == GOOD


def test_displacement_is_read_off_training_where_nothing_was_held_out(make_run, lines) -> None:
    evaluation = lines["evaluation"](1, chosen_log_ratio=after(None), rejected_log_ratio=after(None))
    metrics = lines["metrics"](1, chosen_log_ratio=lambda r, i: -2.0, rejected_log_ratio=lambda r, i: -4.0)
    findings = diagnose(load_run(make_run(1, evaluation=evaluation, metrics=metrics)))
    (found,) = [f for f in findings if f.anchor == "likelihood-displacement"]
    assert "lost 2.00 nats of log-probability (on training pairs)" in found.sentence


def test_displacement_on_a_few_held_out_pairs_is_not_judged_by_them(make_run, lines) -> None:
    few = estimate(0.6) | {"n": 8}
    evaluation = lines["evaluation"](
        1, accuracy=after(few), chosen_log_ratio=after(-3.0, 0.0), rejected_log_ratio=after(-8.0, 0.0)
    )
    metrics = lines["metrics"](1, chosen_log_ratio=lambda r, i: 1.0, rejected_log_ratio=lambda r, i: -4.0)
    findings = diagnose(load_run(make_run(1, evaluation=evaluation, metrics=metrics)))
    assert "likelihood-displacement" not in [f.anchor for f in findings]


LEDGERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "refused": (ledger(used=900, refused={"empty response": 70, "no prompt": 30}), "refused-rows"),
    "few refused": (ledger(used=960, refused={"empty response": 40}), None),
    "by side": (ledger(truncated_by_side={"chosen": 100, "rejected": 20}), "truncation-by-side"),
    "same on both sides": (ledger(truncated_by_side={"chosen": 100, "rejected": 95}), None),
    "no sides known": (ledger(truncated=500), None),
}


@pytest.mark.parametrize("case", LEDGERS)
def test_rules_on_the_ledger(make_run, case: str) -> None:
    content, anchor = LEDGERS[case]
    findings = diagnose(load_run(make_run(3, ledger=content)))
    assert {f.anchor for f in findings if (f.level, f.anchor) not in GOOD} == ({anchor} if anchor else set())


def test_an_interrupted_run_says_so_first(make_run) -> None:
    for name, summary in (("a", None), ("b", {"status": "running"})):
        findings = diagnose(load_run(make_run(3, name=name, summary=summary)))
        assert (findings[0].level, findings[0].anchor) == ("warning", "run-incomplete")


def test_a_run_that_left_the_support_says_what_it_delivers(make_run) -> None:
    summary = {"status": "finished", "left_support": "round 3: 40.0% of the mass is outside", "delivered": 2}
    found = [f for f in diagnose(load_run(make_run(3, summary=summary))) if f.anchor == "left-the-support"]
    assert [f.level for f in found] == ["warning"]
    assert (
        "Round 3: 40.0% of the mass is outside" in found[0].sentence
        and "delivers round 2" in found[0].sentence
    )


def test_nothing_measured_nothing_claimed(make_run) -> None:
    empty = [{"round": r} for r in range(3)]
    run = load_run(make_run(2, evaluation=empty, metrics=[], ledger=None))
    assert diagnose(run) == []
    assert verdict(run) == "After 2 rounds: nothing was measured."
    assert verdict(load_run(make_run(0, name="zero"))).startswith("Nothing has been trained yet")


def share(value: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def found_of(
    make_run, lines, anchor: str, rounds: int = 1, files: dict[str, Any] | None = None, **changes: Any
) -> list:
    evaluation = lines["evaluation"](rounds, **changes)
    run = load_run(make_run(rounds, evaluation=evaluation, **(files or {})))
    return [finding for finding in diagnose(run) if finding.anchor == anchor]


def test_a_few_pairs_are_too_few_to_say(make_run, lines) -> None:
    """Six pairs, all right: 47.6 % to 100 % neither shows that it learnt, nor that it did not."""
    few = after(share(1.0, 0.476, 1.0, 6))
    (found,) = found_of(make_run, lines, "held-out-accuracy", accuracy=few)
    assert (found.level, found.title) == ("note", "Too few held-out pairs")
    assert found.sentence.startswith("6 held-out pairs are too few to say whether it learnt.")
    assert (
        found_of(
            make_run,
            lines,
            "held-out-ranking",
            ranking=after(share(1, 0.5, 1, 6)),
            accuracy=few,
            files={"name": "r"},
        )
        == []
    )
    alone = {
        "win_rate": after(None),
        "exact_win_rate": after(None),
        "exploitability": after(None),
        "accuracy": few,
    }
    run = load_run(make_run(1, name="alone", evaluation=lines["evaluation"](1, **alone)))
    assert (
        verdict(run)
        == "After 1 round the policy was tried on 6 held-out pairs, which are too few to say what it learnt."
    )


def test_a_few_prompts_are_too_few_to_say(make_run, lines) -> None:
    verdicts = [{"round": 1, "prompt_index": i % 4, "sample": i // 4, "win": 1.0} for i in range(8)]
    (found,) = found_of(make_run, lines, "win-rate", files={"verdicts": verdicts})
    assert (found.level, found.title) == ("note", "Too few prompts for a win rate")
    assert "4 prompts are too few to say which is better" in found.sentence
    assert "met its reference on 4 prompts" in verdict(load_run(make_run(1, name="b", verdicts=verdicts)))


def test_two_more_of_32_samples_without_an_end_are_noise(make_run, lines) -> None:
    length = after(share(10, 9, 11, 32), share(10, 9, 11, 32))
    few = found_of(make_run, lines, "unfinished-responses", finished=after(1 / 32, 3 / 32), length=length)
    assert few == []
    length = after(share(10, 9, 11, 800), share(10, 9, 11, 800))
    (many,) = found_of(
        make_run,
        lines,
        "unfinished-responses",
        finished=after(0.85, 0.94),
        length=length,
        files={"name": "many"},
    )
    assert "from 6.0 % to 15.0 % of 800 samples" in many.sentence


def test_intervals_of_length_that_overlap_are_no_drift(make_run, lines) -> None:
    wide = after(share(12, 8, 16, 30), share(10, 7, 13, 30))
    assert found_of(make_run, lines, "length-drift", length=wide) == []


def test_one_step_says_nothing_of_clipping_or_saturation(make_run, lines) -> None:
    metrics = [{"round": 1, "step": 1, "loss": 0.7, "grad_norm": 9.0, "saturated": 0.9}]
    found = {finding.anchor for finding in diagnose(load_run(make_run(1, metrics=metrics)))}
    assert not found & {"gradient-clipping", "saturated-pairs"}


def test_a_run_without_a_judge_says_what_held_out_pairs_say(make_run, lines) -> None:
    alone = {"win_rate": after(None), "exact_win_rate": after(None), "exploitability": after(None)}
    for name, value, words in (
        (
            "good",
            share(0.8, 0.7, 0.9, 90),
            "moved towards the preferred response on most held-out pairs (80.0 %",
        ),
        ("bad", share(0.2, 0.1, 0.3, 90), "moved away from the preferred response on most held-out pairs"),
        ("none", share(0.5, 0.4, 0.6, 90), "on as many held-out pairs as chance would"),
    ):
        evaluation = lines["evaluation"](1, accuracy=after(value), **alone)
        assert words in verdict(load_run(make_run(1, name=name, evaluation=evaluation)))


def test_every_rule_and_every_explanation_is_exercised_above() -> None:
    anchors = {expected[1][1] for expected in (*CASES.values(), *STEP_CASES.values())}
    anchors |= {anchor for _, anchor in LEDGERS.values() if anchor} | {
        "run-incomplete",
        "closed-gates",
        "left-the-support",
    }
    assert anchors == {one.anchor for one in EXPLANATIONS}
    assert len(RULES) == len(EXPLANATIONS)


def test_a_closed_gate_is_a_finding(make_run) -> None:
    folder = make_run(1)
    gates = [
        {"name": "truncation", "round": 0, "passed": True, "sentence": "few are cut"},
        {
            "name": "refused_rows",
            "round": 0,
            "passed": False,
            "allowed": True,
            "sentence": "9 of 10 rows were refused",
        },
    ]
    (folder / "gates.json").write_text(json.dumps(gates))
    found = {finding.anchor: finding for finding in diagnose(load_run(folder))}
    assert "refused_rows (allowed): 9 of 10 rows were refused" in found["closed-gates"].sentence
    assert "few are cut" not in found["closed-gates"].sentence
