"""docs/configuration.md is the page that the code prints."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from equipoise.methods.index import METHODS
from equipoise.run.docs.config import markdown
from equipoise.run.settings import RunConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def settings() -> dict[str, str | None]:
    """Every setting by its dotted name, with its description."""
    found: dict[str, str | None] = {}
    for name, field in RunConfig.model_fields.items():
        if isinstance(field.default, BaseModel):
            inner = type(field.default).model_fields
            found |= {f"{name}.{leaf}": one.description for leaf, one in inner.items()}
        else:
            found[name] = field.description
    return found


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "run: python -m equipoise.run.docs.config > docs/configuration.md"
    )


def test_every_setting_is_described():
    assert [name for name, description in settings().items() if not description] == []


def test_every_setting_and_method_has_one_row():
    page = markdown()
    for name in [*settings(), *METHODS]:
        assert page.count(f"\n| `{name}` |") == 1, name
