"""Pages as one self-contained file each: templates filled with everything escaped, written whole."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from equipoise.policy.files import whole

# Control characters have no place in HTML and may deceive a terminal; tab and newline stay.
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "�")


def render_page(template: str, **context: Any) -> str:
    """A template of this package with escaping on; an unknown name in it is an error, not an empty string."""
    environment = Environment(
        loader=PackageLoader("equipoise.report", "templates"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    return environment.get_template(template).render(**context).translate(_CONTROLS)


def write_page(path: Path, html: str) -> Path:
    """Write the page whole or not at all. Lone surrogates, which UTF-8 cannot hold, become question marks."""
    with whole(path) as draft:
        draft.write_bytes(html.encode("utf-8", errors="replace"))
    return path


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and a plain statement that it goes on."""
    return text if len(text) <= limit else f"{text[:limit]}… (cut here; {len(text):,} characters in all)"
