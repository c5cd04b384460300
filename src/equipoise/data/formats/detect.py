"""Format detection from all rows of a file: the decision is reported, and never a guess."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

from equipoise.data.errors import DataError
from equipoise.data.formats.answer_like import answer_columns, verdict_columns
from equipoise.data.formats.asked import SYSTEM
from equipoise.data.formats.format import Format, RawRow
from equipoise.data.formats.hints import TELLING, misspelt, nothing_fits, unread_answers, unread_question
from equipoise.data.formats.registry import FORMATS


def decide(rows: Sequence[RawRow], wanted: str = "auto", *, file: str = "") -> tuple[Format, str]:
    """(format, reason in one sentence) of these rows. Raises DataError unless exactly one format fits.

    A format named in the configuration is taken. Otherwise every row votes; rows with null or malformed values
    fit no format and do not vote (the parser refuses them one by one). Votes for two formats are an error, and so is
    a list of prompts beside columns that look like answers and a preference.
    """
    if wanted != "auto":
        return _named(wanted), f"format {wanted}: as configured"
    slip = misspelt(rows, TELLING, votes)
    if slip:
        raise slip.error(file)
    counts = votes(rows)
    if len(counts) > 1:
        raise _several(counts, file)
    if not counts:
        raise nothing_fits(rows, votes, file)
    name = next(iter(counts))
    entry = FORMATS[name]
    if entry.kind == "prompt":
        _check_prompts(entry, rows, file)
    elif entry.cuts_prompt and (error := unread_question(rows, votes, file)):
        raise error
    shown = ", ".join(_shown(entry, rows))
    return entry, f"format {name}: columns {shown} in {counts[name]:,} of {len(rows):,} rows"


def votes(rows: Sequence[RawRow]) -> Counter[str]:
    """Format -> number of rows that have its columns and its shapes, and those of none that reads more."""
    system = frozenset(name for row in rows for name in SYSTEM if name in row)
    by_columns: dict[frozenset[str], list[Format]] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        names = (
            frozenset(row) | system
        )  # a system prompt in some rows only does not make two formats of a file
        if names not in by_columns:
            by_columns[names] = [e for e in FORMATS.values() if not e.by_name and e.has_columns(names)]
        counts.update(
            entry.name for entry in _most_specific([e for e in by_columns[names] if e.fits(row)], names)
        )
    return counts


def _most_specific(entries: Sequence[Format], names: frozenset[str]) -> list[Format]:
    """Those formats that read no less than another one does: a file with answers is more than a list of prompts."""
    entries = [entry for entry in entries if entry.kind != "prompt"] or entries
    columns = [entry.own(names) for entry in entries]
    return [e for e, own in zip(entries, columns, strict=True) if not any(own < other for other in columns)]


def _shown(entry: Format, rows: Sequence[RawRow]) -> list[str]:
    """The columns of the format, under the names they have here."""
    there = frozenset(name for row in rows for name in row)
    return [next((name for name in names if name in there), names[0]) for names in entry.names()]


def _check_prompts(entry: Format, rows: Sequence[RawRow], file: str) -> None:
    """Raises DataError where a list of prompts would leave answers and a preference among them unread."""
    read = entry.own(frozenset(name for row in rows for name in row))
    answers = answer_columns(rows, read)
    verdicts = [name for name in verdict_columns(rows, read) if name not in answers]
    if answers and len(answers) + len(verdicts) > 1:
        raise unread_answers(entry, rows, answers, verdicts, votes, file)


def _named(wanted: str) -> Format:
    if wanted not in FORMATS:
        near = difflib.get_close_matches(wanted, FORMATS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FORMATS)}"
        raise DataError(f"unknown format {wanted!r}", hint=hint)
    return FORMATS[wanted]


def _several(counts: Counter[str], file: str) -> DataError:
    shown = "; ".join(f"{name}: {count:,} rows" for name, count in counts.most_common())
    lines = " or ".join(f"`format: {name}`" for name, _ in counts.most_common())
    return DataError(f"more than one format fits: {shown}", file=file or None, hint=f"add {lines}")
