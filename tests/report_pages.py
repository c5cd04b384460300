"""Pages of reports, as tests read them: tags, attributes, text, scripts; and that nothing else can run in one."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Tags, attributes, text and scripts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.scripts: list[tuple[str, str]] = []  # type, content
        self._open: str | None = None
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        if tag == "script":
            self._open = dict(attrs).get("type") or "text/javascript"
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag) -> None:
        if tag == "script":
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is None:
            self.text += data
        else:
            self.scripts.append((self._open, data))


def check_closed(page: Page) -> None:
    """No handler, no link out, nothing loaded; the policy names the scripts that run, by what they hold."""
    assert not page.tags & {"iframe", "object", "embed", "link", "base", "form", "a", "svg", "img"}
    for tag, name, _ in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in {"href", "src", "style", "srcdoc", "action"}, (tag, name)
    (policy,) = [value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value]
    run = [text for kind, text in page.scripts if kind == "text/javascript"]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    sources = " ".join(f"'sha256-{digest}'" for digest in digests)
    allowed = f" script-src {sources};" if run else ""
    assert policy.startswith(
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:;{allowed} base-uri 'none'"
    )
    assert {kind for kind, _ in page.scripts} <= {"text/javascript", "application/json"}
    assert not any(
        character in text for kind, text in page.scripts if kind != "text/javascript" for character in "<>&"
    )
    style = page.source.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page.source)
    assert len(page.source.encode()) < 5_000_000
