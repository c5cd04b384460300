"""docs/methods/reference.md and its pages are what the code writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.methods.index import METHODS, get
from equipoise.report.methods import stored
from equipoise.run.docs.methods import BY_HAND, guide, page, pages, write

DOCS = Path(__file__).resolve().parents[2] / "docs" / "methods"


@pytest.fixture(scope="module")
def current():
    return pages()


@pytest.mark.slow
def test_every_page_is_current_and_none_is_left_over(current):
    for path, text in current.items():
        there = DOCS / path
        assert there.is_file() and there.read_text(encoding="utf-8") == text, (
            f"{path}: run python -m equipoise.run.docs.methods"
        )
    assert {p.relative_to(DOCS) for p in DOCS.glob("reference/*")} == set(current) - {Path("reference.md")}


def test_the_stored_guide_is_current():
    assert stored.FILE.read_text(encoding="utf-8") == guide(), "run python -m equipoise.run.docs.methods"


def test_the_index_links_every_method_once(current):
    index = current[Path("reference.md")]
    for name in METHODS:
        assert index.count(f"[{name}](reference/{name}.md)") == 1, name


def test_a_page_says_all_there_is_to_say():
    text = page(get("inpo"))
    assert "More, by hand: [inpo](../inpo.md)." in text
    assert "L = ( h - 1/(2 eta) )^2" in text
    assert "| `tau` (the KL weight) | auto | paper's text: eta/3 | 0.1 | 0.05 |" in text
    assert "- with tau = eta it is ipo" in text
    assert "- a third-party trainer drops" in text
    assert "- claim [`inpo_last_iterate`](../../claims.md)" in text
    assert "equipoise play --game brps --method inpo --rounds 5 --gradient" in text


def test_pages_by_hand_are_there():
    for name in BY_HAND.values():
        assert (DOCS / f"{name}.md").is_file()


def test_a_method_without_exact_games_says_why():
    text = page(get("ipo_mean"))
    assert "equipoise play" not in text and "Exact games refuse it: this objective reads mean" in text


def test_writing_removes_pages_of_methods_that_are_no_more(tmp_path, current, monkeypatch):
    monkeypatch.setattr("equipoise.run.docs.methods.pages", lambda: current)
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "gone.md").write_text("# gone")
    write(tmp_path, tmp_path / "guide.json")
    assert {p.relative_to(tmp_path) for p in tmp_path.rglob("*.md")} == set(current)
    assert (tmp_path / "guide.json").read_bytes() == stored.FILE.read_bytes()
