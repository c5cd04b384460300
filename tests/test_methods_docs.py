"""docs/methods/reference.md is the page that the code prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.methods.index import METHODS, get
from equipoise.methods_docs import markdown, section

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods" / "reference.md"


@pytest.fixture(scope="module")
def page():
    return markdown()


def test_the_page_is_current(page):
    assert PAGE.read_text(encoding="utf-8") == page, (
        "run: python -m equipoise.methods_docs > docs/methods/reference.md"
    )


def test_every_method_has_one_section_and_is_linked(page):
    for name, method in METHODS.items():
        assert page.count(f"\n### {name}\n") == 1, name
        assert f"[{name}](#{name})" in page
        assert method.title in page and (not method.notes or method.notes in page)


def test_every_formula_stands_once(page):
    for kind in {type(m.objective or m.update) for m in METHODS.values()}:
        assert page.count(str(kind.__doc__).splitlines()[0]) == 1, kind


def test_a_section_holds_the_values_of_each_world():
    lines = section(get("inpo"), {})
    assert "| `eta` | 0.005 | 0.5 | 0.2 |" in lines
    assert "| `tau` (the KL weight) | 0.001667 | 0.1 | 0.05 |" in lines
    assert "equipoise play --game brps --method inpo --rounds 5 --gradient" in lines


def test_a_method_without_exact_games_says_why():
    text = "\n".join(section(get("ipo_mean"), {}))
    assert "equipoise play" not in text and "not played on exact games: this objective reads mean" in text
