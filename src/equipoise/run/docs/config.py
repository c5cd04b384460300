"""Generator of docs/configuration.md: python -m equipoise.run.docs.config > docs/configuration.md"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from equipoise.methods.index import METHODS
from equipoise.run.settings import RunConfig

INTRODUCTION = """\
# Configuration

Generated from `src/equipoise/run/sections/` and `settings.py`; do not edit. Print it with
`python -m equipoise.run.docs.config > docs/configuration.md`.

Later sources win: package defaults, the method's own values (last table), the YAML file of `--config`, the command's
options, `--set`. A setting has a dotted name (`train.lr`); its last part suffices (`lr`). If it is shared, the method's
parameter takes precedence, then `play`, then `train`; a name that is still ambiguous is an error, and so is an unknown
one. A run folder keeps the resolved settings in `config.yaml`, which `--config` accepts. `none` means not
set.
"""


def markdown() -> str:
    """The whole page: one table per section, and the settings of each method."""
    fields = RunConfig.model_fields
    sections = {name: f.default for name, f in fields.items() if isinstance(f.default, BaseModel)}
    lines = [INTRODUCTION, *_table("General", "", {n: f for n, f in fields.items() if n not in sections})]
    for name, section in sections.items():
        lines += _table(f"`{name}`", f"{name}.", type(section).model_fields)
    lines += ["## What each method sets", ""]
    lines += ["| method | rounds | objective | training |", "|---|---|---|---|"]
    for m in METHODS.values():
        lines.append(f"| `{m.name}` | {m.rounds} | {_settings(m.defaults())} | {_settings(m.train)} |")
    return "\n".join(lines) + "\n"


def _table(title: str, prefix: str, fields: Mapping[str, FieldInfo]) -> list[str]:
    lines = [f"## {title}", "", "| setting | values | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        cells = (f"`{prefix}{name}`", _kind(field), default, field.description or "")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*lines, ""]


def _kind(field: FieldInfo) -> str:
    """The type, or the literals, and the bounds."""
    bounds = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [f"{bounds[k]} {getattr(one, k):g}" for one in field.metadata for k in bounds if hasattr(one, k)]
    return ", ".join([_type(field.annotation), *limits])


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is Annotated:
        return _kind(FieldInfo.from_annotation(kind))
    if get_origin(kind) in (list, dict):
        return str(kind).replace("typing.", "")
    return " or ".join(map(_type, get_args(kind))) or kind.__name__.replace("NoneType", "none")


def _shown(value: Any) -> str:
    return "none" if value is None else f"`{value}`"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={_plain(value)}`" for name, value in values.items())


def _plain(value: Any) -> str:
    """A value on one line; of a text of several lines, such as a prompt, the first words."""
    if isinstance(value, str) and "\n" in value.strip():
        first = value.split(maxsplit=1)[0]
        return "..." if "`" in first else f"{first} ..."
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else repr(value)[1:-1]
        if isinstance(value, str)
        else str(value)
    )


if __name__ == "__main__":
    print(markdown(), end="")
