"""`equipoise explain`: the object, the text, the picture and the command."""

from __future__ import annotations

import io
import json

import pytest
from matplotlib.image import imread
from rich.console import Console

from equipoise.cli.app import main
from equipoise.core.objectives import CATALOG
from equipoise.methods.index import METHODS
from equipoise.report.semantics.explanation import YOURS, everything, explain, known, landscape
from equipoise.report.semantics.picture import components, layers, places, untidy, write_landscape
from equipoise.report.semantics.text import blind_spots, print_everything, print_explained
from equipoise.semantics.losses import READINGS, STRUCTURES, UNREAD

SECTION_KEYS = {
    "name", "title", "note", "confidence", "core", "given", "also", "shortest", "words", "atoms", "rows", "ratio",
    "win", "lose", "symmetric", "pulls", "relations",
}  # fmt: skip


def printed(report, show=print_explained) -> str:
    out = io.StringIO()
    show(report, Console(file=out, width=200))
    return out.getvalue()


def test_orpo_in_full():
    report = explain("orpo")
    assert report.keys() == {"asked", "kind", "structures", "reading", "reason"}
    section, sft = report["structures"]
    assert section.keys() == SECTION_KEYS and (section["name"], sft["name"]) == ("orpo", "sft")
    assert [(row["values"], row["mark"]) for row in section["rows"]] == [
        ([1, 1], "ignored"), ([1, 0], "win"), ([0, 1], "lose"), ([0, 0], "ignored"),
    ]  # fmt: skip
    pulls = {pull["atom"]: pull for pull in section["pulls"]}
    assert pulls["M(w)"] == {
        "atom": "M(w)",
        "coefficient": "1/(1 - p_w)",
        "sign": "+",
        "at_half": pytest.approx(2),
    }
    assert pulls["M(l)"]["at_half"] == pytest.approx(-2)
    kinds = {found["to"]: found["kind"] for found in section["relations"]}
    assert (
        kinds["unlikelihood"] == "weaker" and kinds["ccpo"] == "stronger" and kinds["cpo"] == "incomparable"
    )
    assert kinds.keys() == STRUCTURES.keys() - {"orpo"}
    text = printed(report)
    for words in (
        "orpo says (lam) orpo + sft",
        "p_w (1 - p_l) / (p_l (1 - p_w))",
        "blind to      M(w) and M(l); neither M(w) nor M(l)",
        "raises it, whatever the probabilities",
        "never smaller than",
        "2412.17696",
    ):
        assert words in text


def test_a_typed_formula_is_treated_like_a_name():
    report = explain("M(l) -> M(w)", "M(w) | M(l)", "M(w) & M(l)")
    (section,) = report["structures"]
    by_name = explain("cpo")["structures"][0]
    same = SECTION_KEYS - {"name", "title", "note", "confidence", "relations"}
    assert {key: section[key] for key in same} == {key: by_name[key] for key in same}
    kinds = {found["to"]: found["kind"] for found in section["relations"]}
    assert kinds.pop("cpo") == "equivalent"
    assert kinds == {found["to"]: found["kind"] for found in by_name["relations"]}
    assert "your formula" in printed(report)


def test_against_limits_the_comparison():
    report = explain("cpo", against=("orpo", "simpo", "ipo"))
    assert {found["to"] for found in report["structures"][0]["relations"]} == {"orpo", "dpo"}
    assert "is the same structure" in printed(explain("dpo", against=("ipo",)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*READINGS, *STRUCTURES, *UNREAD])
def test_every_name_prints(name):
    report = explain(name)
    text = printed(report)
    assert report["kind"] == ("unread" if name in UNREAD else "name")
    assert name in text and (name not in UNREAD or "not expressed by one structure" in text)


def test_a_method_is_read_as_its_objective():
    assert known("spin") == known("online_dpo") == "dpo"
    assert known("online_ipo") in ("inpo", "ipo")
    for name, method in METHODS.items():
        if method.objective is None:
            continue
        try:
            assert known(name) in READINGS.keys() | UNREAD.keys() | STRUCTURES.keys()
        except ValueError as error:
            assert "no logical structure is known for" in str(error)


@pytest.mark.parametrize("name", CATALOG)
def test_every_objective_is_read_or_says_that_it_is_not(name):
    try:
        assert explain(name)["asked"] == name
    except ValueError as error:
        assert str(error).startswith(f"no logical structure is known for '{name}'")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("orpoo",), "did you mean 'orpo'"),
        (("orpo", "M(w)"), "--given and --also apply to formulas only"),
        (("M(w) and M(w) or",), "expected a formula"),
        (("true",), "no row loses"),
        (("M(w)", None, None, ("kto", "ppo")), "'ppo' has no structure to compare with"),
    ],
)
def test_what_cannot_be_explained_says_why(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        explain(*arguments)


def test_blind_spots_in_words():
    assert blind_spots(explain("ccpo")["structures"][0]) == ["neither M(w) nor M(l)"]
    assert blind_spots(explain("unlikelihood")["structures"][0]) == []
    assert blind_spots(explain("dpo")["structures"][0]) == ["9 of 16 rows"]
    assert blind_spots(explain("M(l)", "M(w)")["structures"][0]) == ["M(l) alone", "neither M(w) nor M(l)"]


def test_everything_is_one_object_and_prints():
    report = everything()
    assert report.keys() == {"structures", "readings", "unread", "edges", "census"}
    assert {"stronger": "cpo", "weaker": "ccpo"} in report["edges"]
    assert report["census"]["all"] == 256
    text = printed(report, print_everything)
    assert "256 structures" in text and "cunlikelihood" in text


# the picture -------------------------------------------------------------------------------------


def test_a_formula_joins_the_landscape_and_equals_share_a_node():
    found = landscape(explain("M(w)"))
    assert [node["names"] for node in found["nodes"] if YOURS in node["names"]] == [["sft", YOURS]]
    found = landscape(explain("M(w)", None, "M(l)"))
    assert [YOURS] in [node["names"] for node in found["nodes"]]
    names = [node["names"][0] for node in found["nodes"]]
    assert ("unlikelihood", YOURS) in [(names[a], names[b]) for a, b in found["edges"]]


def test_places_are_apart_and_arrows_lead_down():
    found = landscape()
    at, bends = places(len(found["nodes"]), found["edges"])
    assert len(set(at)) == len(at)
    assert bends.keys() == set(found["edges"])
    for (a, b), way in bends.items():
        heights = [y for _, y in (at[a], *way, at[b])]
        assert heights == sorted(heights, reverse=True) and len(set(heights)) == len(heights)
        assert not set(way) & set(at)  # an edge that passes a layer passes between its nodes


def test_layers_avoid_crossings_that_can_be_avoided():
    # 0 and 1 above, 2 and 3 below, joined crosswise: turning one layer round uncrosses them
    edges = [(0, 3), (1, 2)]
    assert untidy([[0, 1], [2, 3]], edges)[0] == 1
    rows, ways = layers([0, 1, 2, 3], edges)
    assert untidy(rows, edges)[0] == 0 and ways == {edge: [] for edge in edges}
    assert components(5, edges) == [[0, 3], [1, 2], [4]]
    # an edge over two layers has one place between
    _, ways = layers([0, 1, 2], [(0, 1), (1, 2), (0, 2)])
    assert len(ways[0, 2]) == 1 and ways[0, 2][0] < 0


def test_the_picture_is_a_png_with_every_mark(tmp_path):
    path = tmp_path / "landscape.png"
    write_landscape(landscape(), path)
    image = imread(path)
    colours = {tuple((255 * pixel[:3]).round().astype(int)) for pixel in image.reshape(-1, 4)}
    for wanted in ("0072B2", "D55E00", "AA4499", "E6E6E6"):
        assert tuple(int(wanted[i : i + 2], 16) for i in (0, 2, 4)) in colours


# the command -------------------------------------------------------------------------------------


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["explain", *arguments])
    out = capsys.readouterr()
    return end.value.code, out.out, out.err


def test_the_command_prints_json_and_draws(capsys, tmp_path):
    path = tmp_path / "l.png"
    code, out, _ = run(
        capsys, "M(l) => M(w)", "--given", "M(w) or M(l)", "--against", "orpo", "dpo", "--json"
    )
    assert code == 0
    assert [found["to"] for found in json.loads(out)["structures"][0]["relations"]] == ["orpo", "dpo"]
    code, out, _ = run(capsys, "all", "--plot", str(path))
    assert code == 0 and out.endswith(f"picture  {path}\n") and imread(path).ndim == 3


def test_the_command_refuses_with_one_message(capsys):
    code, _, err = run(capsys, "M(l) -> (M(w)")
    assert code == 2 and err.splitlines()[-1].index("^") == len("  M(l) -> (M(w)")
    code, _, err = run(capsys, "all", "--given", "true")
    assert code == 2 and "need a single loss" in err
