"""Markdown of untrusted responses as HTML in which nothing runs, loads or leads away.

HTML in a response is shown as text; links show their address and cannot be followed; images show their description
and are never loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token
from markupsafe import Markup

LONGEST = (
    30_000  # characters; a longer text is shown as it is, since parsing may take time quadratic in the length
)
NESTED = 100  # blocks within each other; what is deeper is left out, and stands in the text as written


def _link_open(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    env.setdefault("links", []).append((str(tokens[at].attrGet("href") or ""), at))
    return '<span class="link">'


def _link_close(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    address, begin = env["links"].pop()
    said = "".join(token.content for token in tokens[begin:at])
    return "</span>" if said == address else f'</span> <span class="address">({escapeHtml(address)})</span>'


def _image(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    address = str(tokens[at].attrGet("src") or "")
    return f'<span class="image">[image: {escapeHtml(tokens[at].content)} ({escapeHtml(address)})]</span>'


@lru_cache(1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": NESTED}).enable(
        ["table", "strikethrough"]
    )
    for name, rule in (("link_open", _link_open), ("link_close", _link_close), ("image", _image)):
        parser.add_render_rule(name, rule)
    return parser


def html_of(text: str) -> Markup:
    """The text as safe HTML."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be sent
    if len(text) > LONGEST:
        return Markup(f"<pre>{escapeHtml(text)}</pre>")
    return Markup(_parser().render(text, {}))
