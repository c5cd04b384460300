"""Reports in a real browser: drawn as stored pictures show at three widths, light and dark; named, readable, closed."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.report.comparison.page import write_comparison
from equipoise.report.run.page import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here, in which the pages could be looked at"),
]

SCREENS = Path(__file__).with_name("screens")
WRITE = "EQUIPOISE_WRITE_SCREENS"  # set: the stored pictures are written anew, to be looked at before they are kept
WIDTHS, SCHEMES = (400, 768, 1280), ("light", "dark")
SMALL = 100  # pixels that a stored picture is wide: fonts of another machine leave little trace
TOLERANCE = 9.0  # of 255, mean absolute difference
HOSTILE_NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def pages(make_run, lines) -> dict[str, Path]:
    """A report with everything in it, and a comparison of three runs, one of them with a hostile name."""
    folder = make_run(3)
    others = [
        make_run(
            2,
            name=name,
            summary={"method": method, "status": "finished"},
            evaluation=lines["evaluation"](2, exact_win_rate=lambda r, g=gain: 0.5 + g * r),
        )
        for name, method, gain in (("a", "dpo", 0.1), ("b", HOSTILE_NAME, 0.15))
    ]
    comparison = folder.parent / "compare.html"
    return {
        "report": write_report(folder),
        "compare": write_comparison([folder, *others], comparison),
    }


@contextmanager
def opened(
    browser: Any, path: Path, width: int = 1280, scheme: str = "light"
) -> Iterator[tuple[Any, list[str]]]:
    """(the page with all of its charts drawn, what went wrong in it)."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    for _ in range(200):
        if page.evaluate("() => document.documentElement.dataset.charts === 'drawn'"):
            break
        page.wait_for_timeout(100)
    else:
        wrong.append("the charts were not drawn")
    page.wait_for_timeout(200)
    yield page, wrong
    context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_look_as_stored(browser, pages, width: int, scheme: str) -> None:
    for name, path in pages.items():
        with opened(browser, path, width, scheme) as (page, wrong):
            assert wrong == []
            assert page.evaluate("() => document.documentElement.scrollWidth") == width
            shot = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        small = shot.convert("RGB").resize(
            (SMALL, round(SMALL * shot.height / shot.width)), Image.Resampling.BOX
        )
        stored = SCREENS / f"{name}-{scheme}-{width}.png"
        if WRITE in os.environ:
            SCREENS.mkdir(exist_ok=True)
            small.quantize(32).save(stored, optimize=True)
        with Image.open(stored) as kept:
            expected = kept.convert("RGB")
        assert abs(small.height - expected.height) <= 0.08 * expected.height, f"{stored.name}: another height"
        # a page of another machine's fonts is a little longer or shorter
        seen = np.asarray(small.resize(expected.size, Image.Resampling.BOX), dtype=float)
        apart = np.abs(seen - np.asarray(expected, dtype=float)).mean()
        assert apart < TOLERANCE, (
            f"{stored.name}: {apart:.1f} of 255 apart; look at it, then write it with {WRITE}=1"
        )


def test_light_and_dark_are_told_apart_by_the_comparison_of_pictures() -> None:
    """The tolerance is far below what a wrong colour scheme is apart."""
    for name in ("report", "compare"):
        light, dark = (
            np.asarray(Image.open(SCREENS / f"{name}-{scheme}-768.png").convert("RGB"), dtype=float)
            for scheme in SCHEMES
        )
        assert np.abs(light - dark[: len(light)]).mean() > 10 * TOLERANCE


@pytest.mark.parametrize("scheme", SCHEMES)
def test_everything_is_named_and_readable(browser, pages, scheme: str) -> None:
    """What a checker of accessibility asks: names, headings, ids, header cells, contrast of text and of lines."""
    for path in pages.values():
        with opened(browser, path, 768, scheme) as (page, _):
            page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert page.evaluate(FAULTS) == []
            assert page.evaluate(POOR_CONTRAST) == []
            assert page.evaluate(PALE_LINES) == []


def test_the_checks_of_reading_find_what_is_wrong(browser, pages) -> None:
    with opened(browser, pages["report"], 768) as (page, _):
        page.evaluate(
            "() => { const style = document.documentElement.style; style.setProperty('--soft', '#bbb');"
            " style.setProperty('--s0', '#eee'); document.querySelector('.chart').removeAttribute('aria-label'); }"
        )
        assert page.evaluate(POOR_CONTRAST)  # [] before, as another test asserts
        assert [place for place, _ in page.evaluate(PALE_LINES)] == [0]
        assert "a chart without a name" in page.evaluate(FAULTS)


def test_a_pointer_reads_values_off_a_chart_and_a_keyboard_off_its_table(browser, pages) -> None:
    with opened(browser, pages["report"]) as (page, wrong):
        chart = page.locator("#chart-win_rate")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.move(box["x"] + 0.97 * box["width"], box["y"] + 40)
        page.mouse.move(box["x"] + 0.96 * box["width"], box["y"] + 42)
        page.get_by_text("sampled, round 3: 71.8 % (67.8 % to 75.8 %)").wait_for(timeout=5000)
        summary = page.locator("figure:has(#chart-win_rate) summary")
        summary.focus()
        page.keyboard.press("Enter")
        assert page.locator("figure:has(#chart-win_rate) td").first.is_visible()
        assert wrong == []


def test_names_in_charts_are_text_and_nothing_else_runs(browser, pages) -> None:
    with opened(browser, pages["compare"]) as (page, wrong):
        chart = page.locator("#chart-exact_win_rate-0")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 60)
        page.mouse.move(box["x"] + 0.61 * box["width"], box["y"] + 62)
        page.get_by_text(f"{HOSTILE_NAME}, round 2", exact=False).first.wait_for(timeout=5000)
        assert page.locator("img").count() == 0
        assert wrong == []
        page.evaluate(
            "() => { const one = document.createElement('script'); one.textContent = 'window.ran = 1';"
            " document.body.append(one); }"
        )
        assert page.evaluate("() => window.ran") is None
        assert any("Content Security Policy" in text for text in wrong)


FAULTS = """() => {
  const found = [];
  const named = (one) => (one.getAttribute("aria-label") || one.textContent || "").trim();
  if (!document.documentElement.lang || !document.title) found.push("no language or title");
  for (const one of document.querySelectorAll("[role], summary, button, h1, h2, h3, th"))
    if (!named(one)) found.push("no name: " + one.outerHTML.slice(0, 80));
  for (const one of document.querySelectorAll("[tabindex]"))
    if (one.tabIndex > 0 || !named(one)) found.push("tabindex: " + one.outerHTML.slice(0, 80));
  for (const one of document.querySelectorAll(".scroll"))
    if (one.scrollWidth > one.clientWidth && one.tabIndex !== 0) found.push("no keyboard scrolls: " + named(one));
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) found.push("an id twice");
  let level = 0;
  for (const one of document.querySelectorAll("h1, h2, h3")) {
    const own = Number(one.tagName[1]);
    if (own > level + 1) found.push("heading skipped: " + named(one));
    level = own;
  }
  if (document.querySelectorAll("h1").length !== 1 || document.querySelectorAll("main").length !== 1)
    found.push("not one h1 and one main");
  for (const chart of document.querySelectorAll(".chart")) {
    if (chart.getAttribute("role") !== "img" || named(chart).length < 20) found.push("a chart without a name");
    if (!chart.closest("figure").querySelector("table tbody tr")) found.push("a chart without its values");
  }
  return found;
}"""

COLOURS = """
  const parsed = (text) => {
    const numbers = (text.match(/-?[0-9.]+(?:e-?[0-9]+)?/g) || []).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    const [r, g, b, a = 1] = numbers;
    return { rgb: [r * scale, g * scale, b * scale], a };
  };
  const over = (top, under) => top.rgb.map((value, k) => top.a * value + (1 - top.a) * under[k]);
  const behind = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) layers.push(parsed(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
"""

POOR_CONTRAST = (
    "() => {"
    + COLOURS
    + """
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    const text = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(one.tagName) || !one.getClientRects().length) continue;
    const style = getComputedStyle(one), under = behind(one);
    const ratio = contrast(over(parsed(style.color), under), under);
    if (ratio < 4.5) found.push([one.tagName, one.className, ratio.toFixed(2), one.textContent.slice(0, 40)]);
  }
  return found.slice(0, 10);
}"""
)

PALE_LINES = (
    "() => {"
    + COLOURS
    + """
  const found = [];
  const swatch = document.createElement("span");
  document.querySelector("figure").append(swatch);
  for (let k = 0; k < 6; k++) {
    swatch.style.color = `var(--s${k})`;
    const ratio = contrast(parsed(getComputedStyle(swatch).color).rgb, behind(swatch));
    if (ratio < 3) found.push([k, ratio.toFixed(2)]);
  }
  return found;
}"""
)
