"""The frame: verdicts, fitted powers, intervals, the index, and evidence as text, files and pages."""

from __future__ import annotations

import json
import pkgutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import equipoise.claims
from equipoise.claims.claim import Claim, Evidence, Line, Panel, Table, interval, log_slope, verdict
from equipoise.claims.grades import GRADES, MEANING
from equipoise.claims.index import CLAIMS, HOMES, get
from equipoise.report.claims import evidence as report
from equipoise.report.claims import provenance
from equipoise.report.claims.picture import picture
from equipoise.report.claims.provenance import rule_hash
from equipoise.report.claims.text import print_claims, print_evidence
from equipoise.report.methods import stored

DOCS = Path(__file__).parents[2] / "docs"

EVIDENCE = Evidence(
    verdict="holds",
    summary="a [b] c",
    tables=(Table("t|itle", ("name|", "value"), (("x|y", 0.123456), ("z", None))),),
    panels=(
        Panel(
            "p",
            "n",
            "y",
            (
                Line("one, T = 3", (1.0, 10.0), (1.0, 0.1), (0.9, 0.05), (1.1, 0.2)),
                Line("$short", (1.0, 5.0), (0.5, 0.2)),
                Line("guide", (1.0, 10.0), (2.0, 0.5), guide=True),
            ),
        ),
    ),
)


@pytest.mark.parametrize(
    ("heart", "others", "expected"),
    [
        (True, (True,), "holds"),
        (True, (), "holds"),
        (True, (True, False), "mixed"),
        (False, (True,), "fails"),
        (False, (False,), "fails"),
    ],
)
def test_verdict(heart, others, expected):
    assert verdict(heart, others) == expected


def test_a_power_law_is_recovered_with_an_honest_error():
    x, rng = np.array([10.0, 30.0, 100.0, 300.0, 1000.0]), np.random.default_rng(0)
    exact = np.tile(3 * x**-0.5, (5, 1))
    assert log_slope(list(x), exact).value == pytest.approx(-0.5)
    assert log_slope(list(x), exact).error == pytest.approx(0, abs=1e-12)
    fits = [log_slope(list(x), exact[0] * rng.lognormal(0, 0.3, (40, 5))) for _ in range(200)]
    spread = np.std([fit.value for fit in fits])
    assert np.mean([fit.error for fit in fits]) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("values", [np.ones((1, 2)), np.ones((3, 3)), np.array([[0.0, 1], [0, 1], [0, 1]])])
def test_a_power_that_cannot_be_fitted_is_refused(values):
    with pytest.raises(ValueError):
        log_slope([1.0, 2.0], values)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    draws = rng.normal(2.0, 1.0, (8, 4000))
    _, low, high = interval(draws)
    assert np.mean((low <= 2) & (high >= 2)) == pytest.approx(0.95, abs=0.012)


def test_a_ragged_table_is_refused():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", ("a", "b"), ((1,),))


def test_the_index_names_the_nearest():
    assert all(name == claim.name and "Heart: " in claim.rule for name, claim in CLAIMS.items())
    with pytest.raises(KeyError, match="did you mean 'spac_saddle'"):
        get("spac_sadle")


def test_the_index_lists_every_claim_where_it_is_made():
    """A claim that a module makes and the index does not name would never be run."""
    made = set()
    for module in pkgutil.walk_packages(equipoise.claims.__path__, "equipoise.claims."):
        for name, value in vars(import_module(module.name)).items():
            if isinstance(value, Claim):
                made.add((value.name, f"{module.name.removeprefix('equipoise.claims.')}:{name}"))
    assert made == set(HOMES.items())


def test_evidence_is_written_and_printed(tmp_path):
    paths = report.write_evidence("spac_saddle", EVIDENCE, tmp_path)
    assert [path.name for path in paths] == ["spac_saddle.json", "spac_saddle.png"]
    found = json.loads(paths[0].read_text())
    assert found["verdict"] == "holds" and found["tables"][0]["rows"] == [["x|y", 0.123456], ["z", None]]
    assert (found["rule"], found["set"]) == (get("spac_saddle").rule, "")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert picture(EVIDENCE) == paths[1].read_bytes()
    console = Console(record=True, width=100)
    print_evidence(EVIDENCE, console)
    text = console.export_text()
    assert "a [b] c" in text and "0.123" in text
    print_claims(stored.claims(), console)
    assert all(name in console.export_text(clear=False) for name in CLAIMS)


def test_stored_evidence_is_read_back_as_it_was(tmp_path):
    report.write_evidence("spac_saddle", EVIDENCE, tmp_path, "quick", fresh={1: "holds", 2: "fails"})
    found = report.stored_evidence("spac_saddle", tmp_path, "quick")
    assert (found.evidence, found.scale, found.fresh) == (EVIDENCE, "quick", {1: "holds", 2: "fails"})
    assert found.origin["rule_sha256"] == rule_hash(get("spac_saddle")) and found.verdict == "undecided"
    assert report.stored_evidence("spac_saddle", tmp_path, "full") is None
    assert report.stored_evidence("rto_credit", tmp_path, "quick") is None  # nothing there
    report.write_evidence("spac_saddle", EVIDENCE, tmp_path, "full")
    assert report.stored_evidence("spac_saddle", tmp_path, "quick").scale == "full"
    report.write_evidence("spac_saddle", EVIDENCE, tmp_path, "full", seed_offset=2)
    assert report.stored_evidence("spac_saddle", tmp_path, "quick") is None  # not the seeds as shipped


@pytest.mark.parametrize("change", [{"rule": "Heart: another."}, {"rule_sha256": "0" * 64}])
def test_evidence_under_another_rule_does_not_count(tmp_path, change, capsys):
    report.write_evidence("spac_saddle", EVIDENCE, tmp_path / "figures")
    path = tmp_path / "figures" / "spac_saddle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert report.stored_evidence("spac_saddle", tmp_path / "figures", "quick") is None
    assert report.check(tmp_path / "claims.md") == int("rule_sha256" in change)
    assert ("spac_saddle: the rule was changed" in capsys.readouterr().out) == ("rule_sha256" in change)


def test_a_program_that_changed_since_its_run_is_listed(tmp_path):
    report.write_evidence("spac_saddle", EVIDENCE, tmp_path)
    assert report.changed(tmp_path) == ([], [])
    path = tmp_path / "spac_saddle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"program_sha256": "0" * 64}))
    assert report.changed(tmp_path) == ([], ["spac_saddle"])


def test_what_a_program_reads_is_part_of_its_hash():
    modules = provenance._modules("equipoise.claims.coverage.spac", set())
    assert {"equipoise.claims.coverage.spac", "equipoise.claims.claim", "equipoise.claims.draws"} <= modules
    assert "equipoise.claims.coverage.hypo" not in modules
    assert provenance.program_hash("spac_saddle") == provenance.program_hash("spac_lucky_arm")
    assert provenance.program_hash("spac_saddle") != provenance.program_hash("hypo_partial_coverage")


def test_every_stored_figure_was_found_under_the_rule_that_stands_there():
    if not DOCS.exists():
        pytest.skip("the documentation is not part of this copy")
    rules, _ = report.changed(DOCS / "figures")
    assert rules == [], "rules were changed after the stored runs: remove their JSON and run them again"


def test_every_claim_has_a_grade_and_a_reason():
    assert set(GRADES) == set(CLAIMS)
    assert all(grade.letter in MEANING and grade.reason.endswith(".") for grade in GRADES.values())


def page_of(**found):
    return report.markdown(found)


def test_the_page_says_at_which_scale_a_claim_was_run():
    page = page_of(spac_saddle=report.Stored(EVIDENCE), rto_credit=report.Stored(EVIDENCE, "quick"))
    assert "| holds | full | C |" in page and "| holds | quick | A |" in page
    assert "**holds (quick run).**" in page.split("\n## rto_credit\n")[1]
    assert "`equipoise claims rto_credit --scale quick`" in page
    assert "(quick run)" not in page.split("\n## rto_credit\n")[0]


def test_the_page_says_where_evidence_comes_from_and_what_other_seeds_say():
    origin = {"commit": "0123456789abcdef+", "date": "2026-01-02", "rule_sha256": "fedcba9876543210"}
    page = page_of(spac_saddle=report.Stored(EVIDENCE, "full", {1: "holds", 2: "mixed"}, origin))
    assert "(run on 2026-01-02, commit 0123456789+, rule fedcba9876)" in page
    assert "| undecided | full |" in page and "**undecided.**" in page
    assert "Seeds as shipped: holds. Other seeds (offset): holds (1), mixed (2)." in page


def test_a_claim_without_evidence_is_listed_as_not_run():
    page = report.markdown({"spac_saddle": report.Stored(EVIDENCE)}, waiting=["rto_credit"])
    assert "| `rto_credit` |" in page and "| not run yet | - | A |" in page and "## rto_credit" not in page


def test_the_page_escapes_bars_and_links_pictures():
    page = page_of(spac_saddle=report.Stored(EVIDENCE))
    assert "| name\\| | value |\n| --- | ---: |\n| x\\|y | 0.1235 |\n| z | - |" in page
    assert "(figures/spac_saddle.png)" in page and "**holds.**" in page
    assert "[2406.04274](https://arxiv.org/abs/2406.04274)" in page


def test_a_rule_that_was_set_after_a_run_says_so_on_the_page():
    page = page_of(spac_saddle=report.Stored(EVIDENCE), rto_credit=report.Stored(EVIDENCE))
    own = page.split("\n## rto_credit\n")[1]
    assert f"When it was set: {get('rto_credit').set}" in own
    assert "When it was set" not in page.split("\n## rto_credit\n")[0].split("\n## spac_saddle\n")[1]
