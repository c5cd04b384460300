"""Scores, attributes and soft labels of a pair under the column names that data sets use for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.formats.annotations import answer_attributes, with_attributes
from equipoise.data.formats.columns import SIDE_ATTRIBUTES
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.parse_values import Reading, number_of

_KINDS = ("score", "rating", "reward")
SCORE_COLUMNS = tuple(
    names
    for kind in _KINDS
    for names in ((f"{kind}_chosen", f"{kind}_rejected"), (f"chosen_{kind}", f"rejected_{kind}"))
)
# SPPO: the mean win probability of each side over all samples of the prompt, and P(chosen beats rejected)
SCORE_COLUMNS += (("chosen_probs_win", "chosen_probs_lose"),)
PROB_COLUMN = "chosen_probs"


def judged(entry: Format) -> Format:
    """The pair format that also reads scores and attributes of both answers, and SPPO's `chosen_probs` as `prob`."""
    return replace(entry, parse=_judged(entry.parse))


def _judged(parse: Callable[[RawRow, Reading], Fields | list[Fields]]) -> Callable[[RawRow, Reading], Any]:
    def parsed(row: RawRow, reading: Reading) -> Fields | list[Fields]:
        fields = parse(row, reading)
        if isinstance(fields, list):  # scores of whole lists of answers would not say which is whose
            return fields
        attributes = answer_attributes(row, 2, SIDE_ATTRIBUTES, reading)
        fields["candidates"] = with_attributes(fields["candidates"], attributes)
        scores = next(
            (both for names in SCORE_COLUMNS if (both := _scores(row, names, reading)) is not None), None
        )
        if scores is not None:
            fields["candidates"] = tuple(
                replace(candidate, score=score)
                for candidate, score in zip(fields["candidates"], scores, strict=True)
            )
        if scores is not None and scores[0] == scores[1] and reading.equal_scores != "keep":
            if reading.equal_scores == "drop":
                raise Refusal("the answers have equal scores")
            fields["prob"] = 0.5
            reading.notes["pairs with equal scores became ties, with probability 0.5"] += 1
        elif row.get("prob") is None and row.get(PROB_COLUMN) is not None:
            fields["prob"] = probability(row, PROB_COLUMN, reading)
            reading.notes["`chosen_probs` is the probability that chosen beats rejected"] += 1
        return fields

    return parsed


def probability(row: RawRow, name: str, reading: Reading) -> float:
    """A probability. Refuses what is not a number in [0, 1]."""
    value = number_of(row, name, reading)
    if value is None or not 0 <= value <= 1:
        raise Refusal(f"{name} is outside [0, 1]", repr(value))
    return value


def _scores(row: RawRow, names: tuple[str, str], reading: Reading) -> tuple[float, float] | None:
    """Both scores, or None unless both are finite numbers: they are evidence about a label, never required.

    A note counts the rows in which they are something else than numbers or null.
    """
    if not set(names) <= set(row):
        return None
    given = [row[name] for name in names]
    if None in given:
        return None
    try:
        scores = float(given[0]), float(given[1])
    except (TypeError, ValueError, OverflowError):
        scores = (math.nan, math.nan)
    if all(map(math.isfinite, scores)):
        return scores
    reading.notes[f"`{names[0]}` and `{names[1]}` are not two finite numbers: not read"] += 1
    return None
