"""Format detection from all rows of a file: the decision is reported, and never a guess."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence

from equipoise.data.errors import DataError
from equipoise.data.formats.columns import ANSWER_COLUMNS, MEDIA_COLUMNS, OPTIONAL_COLUMNS
from equipoise.data.formats.format import Format, RawRow
from equipoise.data.formats.registry import FORMATS

PROMPT_LIKE = ("instruction", "question", "input")
# Names whose misspelling would silently change the meaning of a row; `text`, `input` and `id` are too common.
TELLING = ("prompt", "chosen", "rejected", "completion", "label", *OPTIONAL_COLUMNS[1:])
_ALL_COLUMNS = frozenset(name for entry in FORMATS.values() for name in entry.columns)
KNOWN = _ALL_COLUMNS | ANSWER_COLUMNS | set(OPTIONAL_COLUMNS) | set(MEDIA_COLUMNS) | set(PROMPT_LIKE)


def decide(rows: Iterable[RawRow], wanted: str = "auto", *, file: str = "") -> tuple[Format, str]:
    """(format, reason in one sentence) of these rows. Raises DataError unless exactly one format fits.

    A format named in the configuration is taken. Otherwise every row votes; rows with null or malformed values
    fit no format and do not vote (the parser refuses them one by one). Votes for two formats are an error.
    """
    if wanted != "auto":
        return _named(wanted), f"format {wanted}: as configured"
    columns: Counter[str] = Counter()
    votes: Counter[str] = Counter()
    by_columns: dict[frozenset[str], list[Format]] = {}
    sizes: Counter[frozenset[str]] = Counter()
    for row in rows:
        names = frozenset(row)
        columns.update(row.keys())
        sizes[names] += 1
        if names not in by_columns:
            by_columns[names] = [entry for entry in FORMATS.values() if entry.has_columns(names)]
        votes.update(entry.name for entry in _most_specific([e for e in by_columns[names] if _fits(e, row)]))
    _check_spelling(columns, TELLING, file)
    if len(votes) == 1:
        name = next(iter(votes))
        shown = ", ".join(FORMATS[name].columns)
        return FORMATS[name], f"format {name}: columns {shown} in {votes[name]:,} of {sizes.total():,} rows"
    if votes:
        raise _several(votes, file)
    raise _nothing(columns, by_columns.values(), file)


def _fits(entry: Format, row: RawRow) -> bool:
    """Whether the row has the format's shapes; a test that the values break is not passed."""
    try:
        return entry.fits(row)
    except (TypeError, AttributeError, LookupError, ValueError):
        return False


def _most_specific(entries: Sequence[Format]) -> list[Format]:
    """Those formats that read no less than another one does: a file with scores is more than a list of prompts."""
    columns = [frozenset(entry.columns) for entry in entries]
    return [e for e, own in zip(entries, columns, strict=True) if not any(own < other for other in columns)]


def _named(wanted: str) -> Format:
    if wanted not in FORMATS:
        near = difflib.get_close_matches(wanted, FORMATS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FORMATS)}"
        raise DataError(f"unknown format {wanted!r}", hint=hint)
    return FORMATS[wanted]


def _several(votes: Counter[str], file: str) -> DataError:
    counts = "; ".join(f"{name}: {count:,} rows" for name, count in votes.most_common())
    lines = " or ".join(f"`format: {name}`" for name, _ in votes.most_common())
    return DataError(f"more than one format fits: {counts}", file=file or None, hint=f"add {lines}")


def _nothing(columns: Counter[str], fitting: Iterable[list[Format]], file: str) -> DataError:
    _check_spelling(columns, sorted(_ALL_COLUMNS), file)
    by_columns = next((entry for entries in fitting for entry in entries), None)
    if by_columns is not None:
        return DataError(
            f"columns {', '.join(by_columns.columns)} are present, but no row has text or messages in all of them",
            file=file or None,
            hint='write text as a string and chat as [{"role": ..., "content": ...}, ...]',
        )
    substitute = next((name for name in PROMPT_LIKE if columns[name]), None)
    answers = columns["chosen"] or columns["completion"]
    if "prompt" not in columns and substitute and answers:
        return DataError(
            f"no column `prompt`, but a column `{substitute}`",
            file=file or None,
            hint=f"add `mapping: {{prompt: {substitute}}}`",
        )
    known = "; ".join(dict.fromkeys(", ".join(entry.columns) for entry in FORMATS.values()))
    return DataError(
        f"no known format has the columns {', '.join(columns)}",
        file=file or None,
        hint=f"known column sets: {known}. Rename with `mapping: {{ours: yours}}`",
    )


def _check_spelling(columns: Iterable[str], right_names: Iterable[str], file: str) -> None:
    """Raises DataError for a column that looks like a misspelling of a missing one."""
    present = set(columns)
    for name in sorted(present - KNOWN):
        right = next((r for r in right_names if r not in present and is_misspelling(name, r)), None)
        if right:
            raise DataError(
                f"column `{name}`: did you mean `{right}`?",
                file=file or None,
                hint=f"add `mapping: {{{right}: {name}}}`, or set `format:` if it means something else",
            )


def is_misspelling(name: str, right: str) -> bool:
    """Whether `name` looks like a misspelling of `right`: case, a cut end, one letter more, less, other or swapped."""
    name = name.lower()
    if name == right or (len(name) >= 5 and right.startswith(name) and len(right) - len(name) <= 2):
        return True
    if abs(len(name) - len(right)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(name, right, strict=False)) if a != b), None)
    if start is None:
        return True
    a, b = name[start:], right[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[1::-1] == b[:2] and a[2:] == b[2:])
