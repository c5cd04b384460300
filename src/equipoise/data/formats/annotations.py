"""Annotator ids and attributes: who judged a row, and what was measured of the row or of each of its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.formats.answer_like import is_prose
from equipoise.data.formats.columns import ATTRIBUTES, RESPONSE_ATTRIBUTES, USER_COLUMNS
from equipoise.data.formats.format import Fields, RawRow, peeked
from equipoise.data.formats.parse_values import NUMBER, Reading, json_of
from equipoise.data.records import Attributes, Candidate
from equipoise.safe_text import is_blank

LONGEST_ID = 200  # characters of an annotator's id, or of a category


def annotations_of(row: RawRow, reading: Reading) -> Fields:
    """Record fields of the annotator and of the row's own attributes, where the row names them."""
    fields: Fields = {}
    user = user_of(row, reading)
    if user:
        fields["user"] = user
    if peeked(row, ATTRIBUTES) is not None and _listed(peeked(row, ATTRIBUTES)) is None:
        own = scalars_of(peeked(row, ATTRIBUTES))
        if own is None:
            reading.notes[f"`{ATTRIBUTES}` is not an object of numbers and texts: not read"] += 1
        else:
            row.get(ATTRIBUTES)  # read: it does not stay among the unused columns
            fields["attributes"] = own
    return fields


def user_of(row: RawRow, reading: Reading) -> str:
    """The annotator's id: the first of USER_COLUMNS with a short text or a whole number; "" if there is none."""
    for name in USER_COLUMNS:
        value = peeked(row, name)
        if value is None or value == "":
            continue
        identity = _identity(value)
        if identity is None or (name in ("user", "judge") and is_prose(value)):
            reading.notes[f"`{name}` is no annotator's id: not read"] += 1
            continue
        row.get(name)
        return identity
    return ""


def _identity(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    said = str(value).strip() if isinstance(value, str) else str(value)
    return said if not is_blank(said) and len(said) <= LONGEST_ID and "\n" not in said else None


def answer_attributes(
    row: RawRow, count: int, columns: Sequence[tuple[str, ...]] = (), reading: Reading | None = None
) -> tuple[Attributes, ...]:
    """Attributes of each of a row's answers, in the order of the row; empty objects where it names none.

    They stand in `response_attributes` (or `attributes`) as a list of one object for each answer, or in `columns`: a
    column for each answer, of which the first group that is there counts. Raises Refusal for another number of objects.
    """
    for name in (RESPONSE_ATTRIBUTES, ATTRIBUTES):
        listed = _listed(peeked(row, name))
        if listed is None:
            continue
        found = [scalars_of(item) for item in listed]
        if None in found:
            if reading is not None:
                reading.notes[f"`{name}` is not a list of objects of numbers and texts: not read"] += 1
            continue
        row.get(name)
        if len(found) != count:
            raise Refusal(f"{count} answers with {len(found)} {name}")
        return tuple(attributes or {} for attributes in found)
    for names in columns:
        found = [scalars_of(peeked(row, name)) for name in names]
        if any(name in row for name in names) and None not in found:
            for name in names:
                row.get(name)
            return tuple(attributes or {} for attributes in found)
    return ({},) * count


def scalars_of(value: Any) -> Attributes | None:
    """Name -> number or category (short text) of an object, or of JSON of one; None for anything else.

    Flags are 1 and 0; values of null are left out.
    """
    if isinstance(value, str):
        try:
            value = json_of(value, ATTRIBUTES, dict)
        except Refusal:
            return None
    if not isinstance(value, Mapping):
        return None
    found = {str(name): scalar(item) for name, item in value.items() if item is not None}
    return None if None in found.values() else {n: item for n, item in found.items() if item is not None}


def scalar(value: Any) -> float | str | None:
    """A finite number, or a short text; None for anything else."""
    if isinstance(value, str):
        return value if not is_blank(value) and len(value) <= LONGEST_ID else None
    if not isinstance(value, bool | int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def numbers_under(row: RawRow, names: Sequence[str]) -> Attributes:
    """Those of the columns that hold a number, under their names: ratings of one answer by aspect."""
    found: dict[str, float | str] = {}
    for name in names:
        value = peeked(row, name)
        written = isinstance(value, str) and NUMBER.fullmatch(value.strip())
        number = scalar(float(value)) if written else None if isinstance(value, str) else scalar(value)
        if number is not None:
            row.get(name)
            found[name] = number
    return found


def with_attributes(
    candidates: Sequence[Candidate], attributes: Sequence[Attributes]
) -> tuple[Candidate, ...]:
    """The candidates, each with the attributes at its place besides its own."""
    return tuple(
        candidate.with_attributes(found) if found else candidate
        for candidate, found in zip(candidates, attributes, strict=True)
    )


def _listed(value: Any) -> list[Any] | None:
    """A list, or JSON of one; None for anything else."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return list(json_of(value, RESPONSE_ATTRIBUTES, list))
        except Refusal:
            return None
    return None
