"""A section of settings: frozen, no unknown names, one text where a list is expected."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _one_as_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        """A single text where a list is expected: `path: pairs.jsonl`."""
        kind = cls.model_fields[info.field_name or ""].annotation
        listed = any(get_origin(a) is list for a in (kind, *get_args(kind)))
        return [value] if listed and isinstance(value, str) else value
