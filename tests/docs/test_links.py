"""The pages' links, anchors, module names and file paths all lead somewhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "benchmarks/README.md",
    ROOT / "examples/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)

ROOMS = ("src", "tests", "benchmarks", "examples")

FENCE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HTML = re.compile(r"<(?:a|img)\b[^>]*\b(?:href|src)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
ANCHOR = re.compile(r"<a\b[^>]*\b(?:id|name)=\"([^\"]+)\"")
MODULE = re.compile(r"(?:python3? -m|^from|^import) (equipoise(?:\.\w+)*)", re.MULTILINE)
# A file by its path from the root of the repository, anywhere; by the end of its path, in inline code.
FROM_ROOT = re.compile(r"(?<![\w/.-])(?:tests|benchmarks|examples|src|docs)/[\w./-]+\.(?:py|md|json|png)\b")
BY_ITS_END = re.compile(r"`((?:[a-z_0-9]+/)*\w+\.py)`")


def anchors(text: str) -> set[str]:
    """The fragments that a page's headings and named anchors answer to, spelled as GitHub spells them."""
    seen: Counter[str] = Counter()
    found = set(ANCHOR.findall(text))
    for heading in HEADING.findall(FENCE.sub("", text)):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken_links(page: Path) -> Iterator[str]:
    text = CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    for groups in (*LINK.findall(text), *((target,) for target in HTML.findall(text))):
        target = next(filter(None, groups))
        if re.match(r"[a-z][a-z+.-]*:", target):
            continue
        path, _, fragment = unquote(target).partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists():
            yield f"no file {target}"
        elif fragment and fragment not in anchors(place.read_text(encoding="utf-8")):
            yield f"no heading {target}"


def missing_files(page: Path, root: Path) -> Iterator[str]:
    """Modules and files that the text names and the repository lacks; NAME.py in capitals stands for any name."""
    text = page.read_text(encoding="utf-8")
    files = [file for room in ROOMS for file in (root / room).rglob("*.py")]
    for module in MODULE.findall(text):
        place = root / "src" / module.replace(".", "/")
        if not place.with_suffix(".py").is_file() and not (place / "__init__.py").is_file():
            yield f"no module {module}"
    for path in FROM_ROOT.findall(text):
        if not (root / path).exists() and not Path(path).stem.isupper():
            yield f"no file {path}"
    for path in BY_ITS_END.findall(text):
        if not any(file.as_posix().endswith(f"/{path}") for file in files) and not Path(path).stem.isupper():
            yield f"no file {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_whatever_a_page_points_to_exists(page: Path) -> None:
    assert [*broken_links(page), *missing_files(page, ROOT)] == []


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of two pages, one module and one test."""
    for name in ("docs/sub", "src/equipoise/play", "tests"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("__init__.py", "play/__init__.py", "play/method.py"):
        (tmp_path / "src/equipoise" / name).touch()
    (tmp_path / "tests/test_one.py").touch()
    (tmp_path / "docs/sub/other.md").write_text(
        '# The `first` heading: 2 of them!\n## Again\n## Again\n```\n# a comment\n```\n<a id="by-hand"></a>\n'
    )
    return tmp_path


def page(root: Path, text: str) -> Path:
    path = root / "docs/page.md"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("[a](sub/other.md) [b](sub) ![c](https://x.org/y.png) [d](mailto:a@b.c)", []),
        ("[a](sub/other.md#the-first-heading-2-of-them) [b](sub/other.md#again-1)", []),
        ('[a](sub/other.md#by-hand) <a href="sub/other.md">x</a>', []),
        ("# Here\n[a](#here) [`code`](#there)", ["no heading #there"]),
        ("[a](sub/none.md)", ["no file sub/none.md"]),
        ('![a](figures/none.png "title")', ["no file figures/none.png"]),
        ('<img src="none.png">', ["no file none.png"]),
        ("[a]: none.md", ["no file none.md"]),
        ("[a](sub/other.md#again-2)", ["no heading sub/other.md#again-2"]),
        ("[a](sub/other.md#a-comment)", ["no heading sub/other.md#a-comment"]),
        ("`[a](none.md)`\n```\n[b](none.md)\n```\n", []),
    ],
)
def test_broken_links_are_found_and_sound_ones_are_not(small: Path, text: str, complaints: list[str]) -> None:
    assert list(broken_links(page(small, text))) == complaints


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("`python -m equipoise.play.method`, `tests/test_one.py::test_x`, `play/method.py`", []),
        ("`python -m equipoise.play`\n```\nfrom equipoise.play.method import x\n```", []),
        ("`python -m equipoise.none`", ["no module equipoise.none"]),
        ("```\nfrom equipoise.play.none import x\n```", ["no module equipoise.play.none"]),
        ("see tests/test_two.py", ["no file tests/test_two.py"]),
        ("`play/none.py` `method.py` `none.py`", ["no file play/none.py", "no file none.py"]),
        ("`src/equipoise/play/NAME.py`", []),
    ],
)
def test_missing_modules_and_files_are_found(small: Path, text: str, complaints: list[str]) -> None:
    assert list(missing_files(page(small, text), small)) == complaints
