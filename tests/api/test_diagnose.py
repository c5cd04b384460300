"""`equipoise diagnose`: runs, files of pairs, a trained model; what it says, what it refuses, what it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest

import equipoise as eq
from equipoise.cli.app import main
from equipoise.playground import LanguageGame, model_path
from equipoise.playground.offline import write_pairs
from equipoise.playground.reference import reference_policy
from equipoise.report.diagnosis.findings import findings
from equipoise.report.run.page import write_report
from equipoise.run.config import ConfigError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(
        tmp_path_factory.mktemp("data") / "pairs.jsonl",
        LanguageGame(),
        60,
        seed=3,
        reference=reference_policy(),
    )


def command(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    return ended.value.code


def around(value, width=0.01):
    return {"value": value, "low": value - width, "high": value + width, "n": 40}


def figures(**more):
    share = around(0.5)
    return {
        "pairs": 40,
        "beta": 0.1,
        "ranking": {"reference": share, "ideal_at_beta": share, "ideal": {}, "out_of_reach": around(0.0)},
    } | more


@pytest.mark.parametrize(
    ("chosen", "margin", "level", "title"),
    [
        (-3.0, 1.0, "warning", "Likelihood displacement"),
        (0.5, 1.0, "good", "No likelihood displacement"),
        (-0.1, 1.0, "note", "Likelihood displacement is undecided"),
        (
            -3.0,
            -1.0,
            "note",
            "Likelihood displacement is undecided",
        ),  # both fell, the margin too: not displacement
    ],
)
def test_verdicts_on_displacement(chosen, margin, level, title):
    moved = {"chosen": around(chosen), "margin": around(margin), "displaced": around(0.5)}
    moved |= {"rank_correlation": around(0.0)}
    found = findings(figures(displacement=moved, tokens={"gained": [{"token": "No", "change": 0.2}]}))
    (one,) = [f for f in found if "displacement" in f.title]
    assert (one.level, one.title) == (level, title)
    few = findings(figures(displacement=moved, tokens={"gained": []}, pairs=5))
    assert [f.title for f in few] == ["Too few pairs"]


def test_verdicts_on_gradients_reach_and_coverage():
    def kinds(both, apart, n=32):
        return {"pairs": n, "both_fall": around(both), "both_rise": around(0.0), "apart": around(apart)}

    assert findings(figures(entanglement=kinds(0.6, 0.4)))[0].title == "One step lowers both responses"
    assert findings(figures(entanglement=kinds(0.0, 1.0)))[0].level == "good"
    assert findings(figures(entanglement=kinds(0.6, 0.4, n=5))) == []
    far = figures()
    far["ranking"]["out_of_reach"] = around(0.2)
    assert findings(far)[0].title == "Some pairs will stay in the wrong order"
    thin = figures(samples={"answers": 100, "effective": 3.0, "coverage": {"largest": 8.0}})
    assert findings(thin)[0].level == "warning"


def test_pairs_before_training_and_the_filter(pairs, tmp_path, capsys):
    kept = tmp_path / "kept.jsonl"
    asked = ["diagnose", str(model_path()), "--data", str(pairs), "--gradients", "4", "--json"]
    assert command(*asked, "--keep", 0.5, "--filtered", kept) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trained"] is None and found["entanglement"]["pairs"] == 4 and "displacement" not in found
    assert 0 <= found["ranking"]["reference"]["value"] <= 1
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert len(rows) == found["pairs"] // 2
    # what is kept is less similar than the whole, by the same score
    again = eq.diagnose(model_path(), kept, gradients=0)
    middle = 2  # of the quantiles
    assert again.figures["similarity"]["normalised"][middle] < found["similarity"]["normalised"][middle]
    assert command(*asked, "--keep", 0.5, "--filtered", kept) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "diagnose what"),
        ({"keep": 0.5, "data": "x.jsonl"}, "given together"),
        ({"beta": 0.0, "data": "x.jsonl"}, "beta must be a positive number"),
        ({"gradients": -1, "data": "x.jsonl"}, "gradients must be at least 0"),
        ({"keep": 1.5, "filtered": "y.jsonl", "data": "x.jsonl"}, "share above 0"),
        ({"report": True, "data": "x.jsonl"}, "its run's own held-out pairs"),
    ],
)
def test_what_is_refused_before_a_model_is_loaded(given, said):
    with pytest.raises(ValueError, match=said):
        eq.diagnose(model_path(), **given)


def test_a_soft_label_below_one_half_prefers_the_second_response(tmp_path):
    """The same comparison written both ways: P(a beats b) = .2, and P(b beats a) = .8."""
    rows = {
        "prompt": "On a sunny morning a tired sailor asks for tea.",
        "a": "Fine, tea.",
        "b": "Gladly, a large tea.",
    }
    found = []
    for name, (first, second, prob) in {"one": ("a", "b", 0.2), "other": ("b", "a", 0.8)}.items():
        path = tmp_path / f"{name}.jsonl"
        row = {"prompt": rows["prompt"], "chosen": rows[first], "rejected": rows[second], "prob": prob}
        path.write_text(json.dumps(row) + "\n")
        found.append(eq.diagnose(model_path(), path, gradients=1).figures)
    for name, values in found[0]["similarity"].items():
        assert values == pytest.approx(found[1]["similarity"][name])
    assert found[0]["ranking"]["ideal_at_beta"] == found[1]["ranking"]["ideal_at_beta"]
    assert found[0]["ranking"]["reference"] == found[1]["ranking"]["reference"]


def test_data_that_are_no_pairs_are_refused(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with pytest.raises(ConfigError, match="of kind prompt"):
        eq.diagnose(model_path(), path)


@pytest.mark.slow
def test_a_run_is_diagnosed_on_its_own_held_out_pairs(tmp_path, capsys):
    run = eq.align(
        "dpo", out=tmp_path / "run", settings={"data.pairs": 300, "evaluate.prompts": 8}, quiet=True
    )
    page = tmp_path / "page.html"
    assert command("diagnose", run.folder, "--samples", 2, "--gradients", 4, "--out", page) == 0
    said = capsys.readouterr().out
    assert "What training moved" in said and "Answers of both models" in said
    found = eq.diagnose(run, gradients=0)
    held = run.rounds[-1]
    assert found.figures["displacement"]["chosen"]["value"] == pytest.approx(held.chosen_log_ratio, abs=1e-4)
    assert found.figures["beta"] == 0.5  # the run's own, on the playground
    assert np.isclose(found.figures["ranking"]["trained"]["value"], held.ranking.value)
    assert "Diagnosis of the pairs" not in run.report.read_text()
    told = eq.diagnose(run, gradients=0, report=True)
    shown = run.report.read_text()
    assert told.report == run.report and "Diagnosis of the pairs" in shown
    assert "What training moved" in shown and findings(told.figures)[0].title in shown
    (run.folder / "diagnosis.json").write_text('{"pairs": "<b>", "displacement": 1}')
    write_report(run.folder)
    assert "does not hold a diagnosis" in run.report.read_text()
    (run.folder / "playground_pairs.jsonl").write_text("no row\n")
    with pytest.raises(ConfigError, match=r"(?s)the data that .* cannot be read .*; give data"):
        eq.diagnose(run)
    html = page.read_text()
    assert "diagnosis of preference data" in html and "<script" not in html
