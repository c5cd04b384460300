"""HTML of small results in notebooks: tables of texts, every one of them escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from equipoise.safe_text import printable

CELL = "text-align:left;padding:2px 10px 2px 0"


def html_table(
    rows: Iterable[Sequence[str]], headings: Sequence[str] = (), caption: str = "", note: str = ""
) -> str:
    """A table of texts, with the first column as headings of the rows; nothing in it is read as markup."""
    head = "".join(f'<th scope="col" style="{CELL}">{_text(name)}</th>' for name in headings)
    body = "".join(
        f'<tr><th scope="row" style="{CELL}">{_text(first)}</th>'
        + "".join(f'<td style="{CELL};white-space:pre-wrap">{_text(cell)}</td>' for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    title = f'<caption style="text-align:left"><b>{_text(caption)}</b></caption>' if caption else ""
    after = f"<p>{_text(note)}</p>" if note else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{after}"


def _text(text: str) -> str:
    return escape(printable(text, most=2_000, lines=True))
