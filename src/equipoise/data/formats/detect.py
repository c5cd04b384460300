"""Format detection from all rows of a file: the decision is reported, and never a guess."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from equipoise.data.errors import DataError
from equipoise.data.formats.answer_like import answer_columns, names_a_side, verdict_columns
from equipoise.data.formats.asked import SYSTEM
from equipoise.data.formats.format import Format, RawRow
from equipoise.data.formats.hints import TELLING, misspelt, nothing_fits, unread_answers, unread_question
from equipoise.data.formats.registry import FORMATS

KEPT = 1000  # first rows of a file that are kept to look at, and as many with columns that those do not have
DETECTED = [entry for entry in FORMATS.values() if not entry.by_name]


@dataclass
class Survey:
    """What all rows of a file say together: counts of all, and some rows to look at.

    rows         number of rows
    sample       the first rows, and the first row of each later set of columns
    system       system columns that any row has; `has_system`: one with text
    """

    rows: int = 0
    sample: list[RawRow] = field(default_factory=list)
    system: set[str] = field(default_factory=set)
    has_system: bool = False
    _fitting: Counter[tuple[frozenset[str], tuple[str, ...]]] = field(default_factory=Counter)
    _near: dict[frozenset[str], list[Format]] = field(default_factory=dict)

    def add(self, row: RawRow) -> None:
        """Count one row, and the formats whose shapes it has."""
        self.rows += 1
        names = frozenset(row)
        if names not in self._near:
            # a system prompt in some rows only does not make two formats of a file
            self._near[names] = [entry for entry in DETECTED if not entry.missing(names.union(SYSTEM))]
            if KEPT <= len(self.sample) < 2 * KEPT:
                self.sample.append(row)
        if len(self.sample) < KEPT:
            self.sample.append(row)
        for name in SYSTEM:
            if name in row:
                self.system.add(name)
                self.has_system = self.has_system or (isinstance(row[name], str) and bool(row[name].strip()))
        self._fitting[names, tuple(entry.name for entry in self._near[names] if _fits(entry, row))] += 1

    def votes(self) -> Counter[str]:
        """Format -> number of rows that have its columns and its shapes, and those of none that reads more."""
        counts: Counter[str] = Counter()
        for (names, fitting), number in self._fitting.items():
            columns = names | self.system
            entries = [FORMATS[name] for name in fitting if FORMATS[name].has_columns(columns)]
            counts.update({entry.name: number for entry in _most_specific(entries, columns)})
        return counts


def survey(rows: Iterable[RawRow]) -> Survey:
    """The survey of these rows."""
    found = Survey()
    for row in rows:
        found.add(row)
    return found


def votes(rows: Iterable[RawRow]) -> Counter[str]:
    """Format -> number of rows that it reads; see `Survey.votes`."""
    return survey(rows).votes()


def decide(rows: Iterable[RawRow] | Survey, wanted: str = "auto", *, file: str = "") -> tuple[Format, str]:
    """(format, reason in one sentence) of these rows. Raises DataError unless exactly one format fits.

    A format named in the configuration is taken. Otherwise every row votes; rows with null or malformed values
    fit no format and do not vote (the parser refuses them one by one). Votes for two formats are an error, and so is
    a list of prompts with columns that look like answers and a preference.
    """
    if wanted != "auto":
        return _named(wanted), f"format {wanted}: as configured"
    found = rows if isinstance(rows, Survey) else survey(rows)
    sample = found.sample
    slip = misspelt(sample, TELLING, votes)
    if slip:
        raise slip.error(file)
    counts = found.votes()
    if len(counts) > 1:
        raise _several(counts, file)
    if not counts:
        raise nothing_fits(sample, votes, file)
    name = next(iter(counts))
    entry = FORMATS[name]
    if entry.kind == "prompt":
        _check_prompts(entry, sample, file)
    elif entry.cuts_prompt and (error := unread_question(sample, votes, file)):
        raise error
    shown = ", ".join(_shown(entry, sample))
    return entry, f"format {name}: columns {shown} in {counts[name]:,} of {found.rows:,} rows"


def _fits(entry: Format, row: RawRow) -> bool:
    """Whether the row has the format's shapes; a test that the values break is not passed."""
    try:
        return entry.fits(row)
    except (TypeError, AttributeError, LookupError, ValueError):
        return False


def _most_specific(entries: Sequence[Format], names: frozenset[str]) -> list[Format]:
    """Those formats that read no less than another one does: a file with answers is more than a list of prompts."""
    entries = [entry for entry in entries if entry.kind != "prompt"] or entries
    columns = [entry.own(names) for entry in entries]
    return [e for e, own in zip(entries, columns, strict=True) if not any(own < other for other in columns)]


def _shown(entry: Format, rows: Sequence[RawRow]) -> list[str]:
    """The columns of the format, under the names they have here."""
    there = frozenset(name for row in rows for name in row)
    shown: list[str] = []
    for names in entry.names():
        shown.append(next((name for name in names if name in there and name not in shown), names[0]))
    return shown


def _check_prompts(entry: Format, rows: Sequence[RawRow], file: str) -> None:
    """Raises DataError where a list of prompts would leave answers and a preference among them unread."""
    read = entry.own(frozenset(name for row in rows for name in row))
    answers = answer_columns(rows, read)
    verdicts = [name for name in verdict_columns(rows, read) if name not in answers]
    if answers and (len(answers) + len(verdicts) > 1 or any(map(names_a_side, answers))):
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
