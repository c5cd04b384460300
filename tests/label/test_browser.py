"""The page in a real browser: fifty pairs by keys alone, a killed server, and responses that try to run."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the labelling page needs the extra `label`")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")

from equipoise.label.votes import Votes  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
KEYS = {"a": "a", "b": "b", "t": "tie", "x": "bad", "s": "skip"}


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(address, process) of a page that the command line opened."""
    command = [sys.executable, "-m", "equipoise", "label", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout)))
            yield found.group(), process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page; what the test closes it with: nothing of a response ran, loaded, or asked."""
    context = browser.new_context()
    page, heard = context.new_page(), []
    page.on("dialog", lambda dialog: (heard.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: heard.append(f"error {error}"))
    page.on("request", lambda request: heard.append(request.url) if "127.0.0.1" not in request.url else None)
    yield page
    context.close()
    assert not heard


def at(page: Any, number: int, total: int) -> None:
    page.wait_for_selector(f'label[for=progress]:text-is("{number} of {total}")')


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "equipoise", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.nightly
def test_fifty_pairs_by_keys_with_a_killed_server(page: Any, tmp_path: Path):
    rows = [
        {"prompt": f"What is {i} + {i}?", "chosen": f"right {i}", "rejected": f"wrong {i}"} for i in range(50)
    ]
    data, out = tmp_path / "pairs.jsonl", tmp_path / "v.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = (str(data), "--out", str(out), "--repeat", "0.1")
    pressed: list[str] = []

    def answer(number: int, key: str | None = None) -> None:
        at(page, number + 1, 55)
        left = "A" if "right" in page.inner_text('section[aria-label="answer A"]') else "B"
        key = key or {3: "t", 8: "x", 13: "s"}.get(number % 20, left.lower())
        page.keyboard.press(key)
        pressed.append(KEYS[key])

    with served(*command) as (address, process):
        page.goto(address)
        page.keyboard.type("ann")
        page.keyboard.press("Enter")
        for number in range(17):
            answer(number)
        at(page, 18, 55)
        page.keyboard.press("Control+a")  # the browser's own keys are no answers
        page.keyboard.press("w")
        assert page.locator("details[open]").count() == 2
        page.keyboard.press("n")
        page.keyboard.type("a stub, says t and x")
        page.keyboard.press("Escape")
        page.keyboard.press("b")
        at(page, 19, 55)
        page.keyboard.press("u")
        at(page, 18, 55)
        assert page.input_value("#note") == "a stub, says t and x"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with out.open("a") as file:
        file.write('{"event": "vote", "rater": "an')  # as a power loss may leave it
    with served(*command, "--rater", "ann") as (address, _):
        page.goto(address)
        for number in range(17, 55):
            answer(number)
        page.wait_for_selector('h1:text-is("Done")')
    cast = Votes.read(out).cast["ann"]
    assert [vote.choice for vote in cast] == pressed
    events = [json.loads(line)["event"] for line in out.read_text().splitlines()]
    assert [events.count(name) for name in ("begin", "pair", "vote", "undo")] == [1, 50, 56, 1]

    values: dict[str, list[float]] = {}
    for vote in cast:
        values.setdefault(vote.pair, [])
        if vote.value is not None:
            values[vote.pair].append(vote.value)
    assert {value for own in values.values() for value in own} == {
        1.0,
        0.5,
    }  # `right` is the first answer of every pair
    run("label", "export", str(out), "--out", str(tmp_path / "labelled.jsonl"))
    labelled = [json.loads(line) for line in (tmp_path / "labelled.jsonl").read_text().splitlines()]
    decided = [sum(own) / len(own) for own in values.values() if own]
    assert sorted(row["prob"] for row in labelled) == sorted(decided)
    assert all(row["chosen"].startswith("right") for row in labelled)
    figures = json.loads(run("label", "report", str(out), "--json"))
    (rater,) = figures["raters"]
    assert (rater["answered"], rater["of"], figures["labelled"]) == (55, 55, len(labelled))
    assert {name: rater[name] for name in KEYS.values()} == {
        name: pressed.count(name) for name in KEYS.values()
    }
    assert figures["recorded"]["agree"]["value"] == 1.0
    assert f"{len(labelled)} rows of kind pair" in run("data", "check", str(tmp_path / "labelled.jsonl"))


RUN = "window.hacked=1"
HOSTILE = [
    f"<script>{RUN}</script>",
    f"<img src=x onerror='{RUN}'> <img src=http://evil.example/x.png>",
    f"[click](javascript:{RUN}) <javascript:{RUN}> [d](data:text/html,<script>{RUN}</script>)",
    f"</textarea></pre></form></main><script>{RUN}</script>",
    f"<svg onload={RUN}><script>{RUN}</script><animate onbegin={RUN} attributeName=x></svg>",
    f'![x](x"onerror="{RUN}) ![y](http://evil.example/y.png) [a]: http://evil.example "</a><script>{RUN}</script>"',
    f'```html"><script>{RUN}</script>\n</code></pre><script>{RUN}</script>\n```',
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe><base href=http://evil.example/>",
    "<style>*{background:url(http://evil.example)}</style><link rel=stylesheet href=http://evil.example>",
    f"<details open ontoggle={RUN}><input autofocus onfocus={RUN}><meta http-equiv=refresh content='0;http://evil.example'>",
    f"| a |\n|---|\n| <img src=x onerror={RUN}> <https://evil.example/{RUN}> |",
]


def test_nothing_of_a_response_ever_runs(page: Any, tmp_path: Path):
    rows = []
    for i, text in enumerate(HOSTILE):
        other = HOSTILE[(i + 1) % len(HOSTILE)]
        turns = [
            {"role": "user", "content": other},
            {"role": "assistant", "content": text},
            {"role": "user", "content": text},
        ]
        sides = {
            name: [{"role": "assistant", "content": said}]
            for name, said in (("chosen", text), ("rejected", other))
        }
        rows.append({"prompt": turns, **sides})
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with served(str(data), "--out", str(tmp_path / "v.jsonl"), "--question", HOSTILE[0]) as (address, _):
        page.goto(f"{address}rater/ann")
        for number in range(len(HOSTILE)):
            at(page, number + 1, len(HOSTILE))
            page.keyboard.press("w")
            for tag in (
                "script:not([src$='page.js'])",
                "img",
                "svg",
                "iframe",
                "a",
                "style",
                "base",
                "main meta",
                "main input",
            ):
                assert page.locator(tag).count() == 0, tag
            for inert in page.locator(".link").all():
                inert.click(force=True)
            page.fill("#note", HOSTILE[3])
            assert page.evaluate("window.hacked") is None
            page.keyboard.press("Escape")
            page.keyboard.press("a")
            at(page, number + 2, len(HOSTILE)) if number + 1 < len(HOSTILE) else page.wait_for_selector(
                "h1:text('Done')"
            )
            page.keyboard.press("u")
            at(page, number + 1, len(HOSTILE))
            assert page.input_value("#note") == HOSTILE[3] and page.evaluate("window.hacked") is None
            page.keyboard.press("t")
        page.wait_for_selector("h1:text('Done')")


def test_another_site_cannot_post_here(page: Any, tmp_path: Path):
    """A page of another origin, which has even learnt the address, posts a form: nothing is saved."""
    data, out = tmp_path / "pairs.jsonl", tmp_path / "v.jsonl"
    data.write_text('{"prompt": "p", "chosen": "c", "rejected": "r"}\n')
    with served(str(data), "--out", str(out)) as (address, _):
        page.set_content(
            f'<form method=post action="{address}rater/ann"><input name=number value=0>'
            "<input name=choice value=a><button>x</button></form>"
        )
        page.click("button")
        page.wait_for_selector("text=refused")
    assert not Votes.read(out).cast


def test_narrow_and_dark_pages_keep_everything_in_view(browser: Any, tmp_path: Path):
    rows = [{"prompt": "p " * 300, "chosen": "x" * 500, "rejected": "```\n" + "y" * 500 + "\n```"}]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with served(str(data), "--out", str(tmp_path / "v.jsonl"), "--rater", "ann") as (address, _):
        colours = []
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme, viewport={"width": 340, "height": 700})
            page = context.new_page()
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= 340
            for button in page.locator("footer button:visible").all():
                box = button.bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= 340 and box["y"] + box["height"] <= 700
                assert button.get_attribute("aria-keyshortcuts") == button.get_attribute("data-key")
            colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            context.close()
    assert colours[0] != colours[1]
