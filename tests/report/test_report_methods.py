"""The guide to methods: what it says is there, stands in lines that can be read, and is filtered as asked."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from equipoise.claims.index import CLAIMS
from equipoise.core.objectives import Dpo
from equipoise.core.objectives.catalog import CATALOG, Confidence
from equipoise.methods.index import METHODS, get
from equipoise.report.methods import stored
from equipoise.report.methods.axes import AXES, filtered, print_axes
from equipoise.report.methods.guide import NO_SOURCE, entry, need_of, row_of
from equipoise.report.methods.taxonomy import TARGETS
from equipoise.report.methods.text import (
    CONFIDENCE,
    NEEDS,
    SHORT,
    chosen,
    grouped,
    print_method,
    print_methods,
)

ROOT = Path(__file__).resolve().parents[2]
OTHER_SETTINGS = {
    "phases",
    "players",
    "rounds",
    "samples",
    "pairing",
    "lr",
    "epochs",
    "batch",
    "schedule",
    "warmup",
    "weight_decay",
}


def printed(show, what, width=100):
    out = StringIO()
    show(what, Console(file=out, width=width))
    return out.getvalue()


def test_the_list_has_one_line_for_each_method_and_fits_in_a_hundred_columns():
    lines = printed(print_methods, stored.methods()).splitlines()
    assert max(map(len, lines)) <= 100
    first = [line.split(" ")[0] for line in lines]
    for name, method in METHODS.items():
        assert first.count(name) == 1, name
        line = lines[first.index(name)]
        assert method.paper in line and ("free" in line.split()) == (not method.anchors)


def names(entries):
    return [e["name"] for e in entries]


def test_every_method_stands_under_one_need():
    entries = stored.methods()
    assert sorted(name for group in grouped(entries).values() for name in names(group)) == sorted(METHODS)
    for need in NEEDS:
        assert names(chosen(entries, need)) == [n for n, m in METHODS.items() if need_of(m) == need]


def test_every_grade_of_confidence_has_its_words():
    assert set(get_args(Confidence)) == CONFIDENCE.keys() == SHORT.keys()


@pytest.mark.parametrize(
    ("name", "need"),
    [
        ("dpo", "pairs"),
        ("spin", "pairs"),
        ("rlp_uml", "pairs"),
        ("inpo", "online"),
        ("sail_dpp", "pairs"),
        ("rto", "online"),
    ],
)
def test_what_a_method_needs(name, need):
    assert need_of(get(name)) == need


def test_filters():
    entries = stored.methods()
    free = names(chosen(entries, reference_free=True))
    assert "zpg" in free and "dpo" not in free and "sppo" not in free
    assert chosen(entries, "pairs", True) == [e for e in chosen(entries, "pairs") if not e["anchors"]]
    with pytest.raises(ValueError, match="unknown data need 'pear'"):
        chosen(entries, "pear")


def test_a_stored_entry_is_read_by_its_name():
    assert stored.method("inpo")["title"] == METHODS["inpo"].title
    with pytest.raises(KeyError, match="did you mean 'inpo'"):
        stored.method("inpoo")


def test_the_row_of_an_objective_is_the_most_special_one():
    assert row_of(Dpo(beta=0.7)) == ("dpo", CATALOG["dpo"])
    assert row_of(CATALOG["cdpo"].build(smoothing=0.2)) == ("cdpo", CATALOG["cdpo"])
    assert row_of(None) is None


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_an_entry_says_everything_or_says_that_it_is_not_known(method):
    e = entry(method)
    assert e["formula"] and e["need"] in NEEDS and e["status"] and e["confidence"]
    assert set(e["sources"]) == set(e["defaults"])
    assert all(e["sources"].values()) and e["tests"]
    for path in e["tests"]:
        assert (ROOT / path.partition("::")[0]).is_file(), path
    for claim in e["claims"]:
        assert claim in CLAIMS
    if method.objective is not None:
        assert e["bounded"] and CATALOG[e["catalogued"]].evidence


def test_sources_speak_of_parameters_that_some_method_has():
    known = {
        name for m in METHODS.values() for name in (*m.parameters(), *m.sampling, *m.data)
    } | OTHER_SETTINGS
    for name, method in METHODS.items():
        assert set(method.sources) <= known, name


def test_one_method_in_full():
    text = printed(print_method, stored.method("cdpo"), width=140)
    assert "L = (1 - e) * softplus(-m) + e * softplus(m)" in text
    assert "limit       with smoothing = 0 it is dpo" in text
    assert "elsewhere   TRL ignores label_smoothing" in text
    assert "smoothing  0.1     ours; libraries differ, HALOs take 0.2" in text
    assert "tests/core/test_logistic.py" in text


def test_what_is_not_recorded_is_said_to_be_so():
    from dataclasses import replace

    bare = replace(get("dpo"), sources={})
    assert set(entry(bare)["sources"].values()) == {NO_SOURCE}
    assert NO_SOURCE in printed(print_method, entry(bare))


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("dpo", ("pairs", "responses", "offline", "preferred responses", "fixed", "reverse KL")),
        ("simpo", ("pairs", "responses", "offline", "preferred responses", "none", "none")),
        ("tdpo2", ("pairs", "tokens", "offline", "preferred responses", "fixed", "reverse KL, token KL")),
        ("f_dpo_js", ("pairs", "responses", "offline", "preferred responses", "fixed", "Jensen-Shannon")),
        ("f_dpo_forward_kl", ("pairs", "responses", "offline", "preferred responses", "fixed", "forward KL")),
        ("kto", ("single labels", "responses", "offline", "preferred responses", "fixed", "reverse KL")),
        ("sft", ("demonstrations", "responses", "offline", "imitation", "none", "none")),
        ("spac", ("pairs", "responses", "self-play", "preferred responses", "moving", "reverse KL")),
        ("sapo", ("pairs", "responses", "self-play", "preferred responses", "moving", "reverse KL")),
        ("inpo", ("verdicts", "responses", "online", "Nash policy", "fixed and moving", "reverse KL")),
        ("dstc", ("own labels", "responses", "online", "preferred responses", "moving", "reverse KL")),
        ("mcts_dpo", ("rewards", "steps", "online", "preferred responses", "fixed", "reverse KL")),
        ("constrained", ("several rewards", "responses", "online", "several rewards", "fixed", "reverse KL")),
        ("npo", ("single labels", "responses", "offline", "unlearning", "fixed", "reverse KL")),
    ],
)
def test_a_method_s_place_in_the_taxonomy_is_read_off_its_parts(name, axes):
    found = stored.method(name)["axes"]
    assert list(found) == list(AXES)
    assert tuple(found.values())[:-1] == axes


def test_methods_are_filtered_by_axis_and_an_unknown_value_names_the_known_ones():
    everything = stored.methods()
    free = filtered(everything, ["reference=none", "paradigm=offline"])
    assert {"simpo", "orpo"} <= {e["name"] for e in free} and all(not e["anchors"] for e in free)
    assert len(filtered(everything, ["target=cycles"])) > 10
    with pytest.raises(ValueError, match="offline, online, self-play"):
        filtered(everything, ["paradigm=never"])
    with pytest.raises(KeyError, match="paradigm"):
        filtered(everything, ["paradigma=online"])


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_of_axes_keeps_every_word(width):
    lines = printed(print_axes, stored.methods(), width).splitlines()
    assert max(map(len, lines)) <= width and "…" not in "".join(lines)
    assert set(METHODS) <= {line.split(" ")[0] for line in lines}


def test_every_target_is_of_a_method():
    assert set(TARGETS) <= set(METHODS)
