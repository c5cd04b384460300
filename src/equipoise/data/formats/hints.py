"""What to do about a file that no format reads: a mapping that works, else the nearest formats and what they lack.

A mapping is only suggested if the rows, renamed by it, are read by one format, with no column of text left over.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.answer_like import (
    ANSWER_WORDS,
    OTHER_WORDS,
    PREFERRED_WORDS,
    VERDICT_WORDS,
    answer_columns,
    is_prose,
    names_a_side,
    words,
    words_of,
)
from equipoise.data.formats.asked import ASKED, SYSTEM, is_texts
from equipoise.data.formats.columns import (
    ANNOTATION_COLUMNS,
    ANSWER_COLUMNS,
    MEDIA_COLUMNS,
    OPTIONAL_COLUMNS,
)
from equipoise.data.formats.format import Format, RawRow, Tracked
from equipoise.data.formats.layouts.comparisons import ANSWER_PAIRS
from equipoise.data.formats.parse_values import Reading
from equipoise.data.formats.registry import FORMATS

# Names whose misspelling would silently change the meaning of a row; `text`, `input` and `id` are too common.
TELLING = ("prompt", "chosen", "rejected", "completion", "label", *OPTIONAL_COLUMNS[1:])
_FORMAT_COLUMNS = frozenset(name for entry in FORMATS.values() for names in entry.names() for name in names)
KNOWN = (
    _FORMAT_COLUMNS
    | ANSWER_COLUMNS
    | {
        *OPTIONAL_COLUMNS,
        *ANNOTATION_COLUMNS,
        *MEDIA_COLUMNS,
        *ASKED,
        *SYSTEM,
    }
)
TRIED = 50  # rows on which a mapping is tried

Votes = Callable[[Sequence[RawRow]], Counter[str]]


@dataclass(frozen=True)
class Slip:
    """A column whose name is a misspelling of one that is missing."""

    name: str
    right: str

    def error(self, file: str) -> DataError:
        """The error that says so."""
        return DataError(
            f"column `{self.name}`: did you mean `{self.right}`?",
            file=file or None,
            hint=f"add `{line_of({self.right: self.name})}`, or set `format:` if it means something else",
        )


def misspelt(rows: Sequence[RawRow], right_names: Iterable[str], votes: Votes) -> Slip | None:
    """The first misspelling of a missing name that, put right, gives rows that one format reads.

    A plural that holds lists is a column of its own (`labels`, `rationales`), not a slip.
    """
    present = dict.fromkeys(name for row in rows for name in row)
    for name in sorted(present):
        for right in right_names:
            if right in present or not is_misspelling(name, right) or _is_plural(name, right, rows):
                continue
            if name in KNOWN and (name != right + "s" or _reads(name, rows, votes)):
                continue
            if works({right: name}, rows, votes, whole=False):
                return Slip(name, right)
    return None


def _reads(name: str, rows: Sequence[RawRow], votes: Votes) -> bool:
    """Whether the rows are read by one format, for which this column is no misspelling."""
    counts = votes(rows)
    return len(counts) == 1 and any(name in names for names in FORMATS[next(iter(counts))].names())


def _is_plural(name: str, right: str, rows: Sequence[RawRow]) -> bool:
    return name == right + "s" and any(isinstance(row.get(name), list | dict) for row in rows)


def nothing_fits(rows: Sequence[RawRow], votes: Votes, file: str) -> DataError:
    """The error of a file that no format reads."""
    slip = misspelt(rows, sorted(_FORMAT_COLUMNS), votes)
    if slip:
        return slip.error(file)
    columns = frozenset(name for row in rows for name in row)
    mapping = next((m for m in suggestions(rows) if works(m, rows, votes)), None)
    if mapping is not None:
        reason = f"no known format has the columns {_listed(rows)}"
        return DataError(reason, file=file or None, hint=f"add `{line_of(mapping)}`")
    fitting = [entry for entry in FORMATS.values() if entry.has_columns(columns) and not entry.by_name]
    if fitting:
        entry = max(fitting, key=lambda entry: len(entry.own(columns)))
        lists = any(is_texts(row.get(name)) for row in rows for name in entry.own(columns))
        return DataError(
            f"columns {', '.join(sorted(entry.own(columns)))} are present, but no row has text or messages in all of "
            "them",
            file=file or None,
            hint=("some hold lists of strings: write one row for each element; " if lists else "")
            + 'write text as a string and chat as [{"role": ..., "content": ...}, ...]',
        )
    return DataError(
        f"no known format has the columns {_listed(rows)}", file=file or None, hint=nearest_sentence(columns)
    )


def unread_answers(
    entry: Format, rows: Sequence[RawRow], answers: list[str], verdicts: list[str], votes: Votes, file: str
) -> DataError:
    """The error of a list of prompts with answers, or answers and a preference, that it would leave unread."""
    columns = frozenset(name for row in rows for name in row)
    mapping = next((m for m in suggestions(rows) if works(m, rows, votes)), None)
    advice = f"add `{line_of(mapping)}`" if mapping else nearest_sentence(columns)
    shown = ", ".join(f"`{name}`" for name in (*answers, *verdicts))
    return DataError(
        f"the columns {shown} look like answers and their judgement, which a list of prompts would ignore",
        file=file or None,
        hint=f"{advice}; or set `format: {entry.name}` if they are not to be read",
    )


def unread_question(rows: Sequence[RawRow], votes: Votes, file: str) -> DataError | None:
    """The error of pairs whose prompt would be cut out of the answers, although a column may hold it; else None."""
    mapping = next((m for m in suggestions(rows) if "prompt" in m and works(m, rows, votes)), None)
    if mapping is None or all(
        str(row.get("chosen")).startswith(str(row.get(mapping["prompt"]))) for row in rows
    ):
        return None
    return DataError(
        f"the column `{mapping['prompt']}` may hold the prompt, which both answers would otherwise have to begin with",
        file=file or None,
        hint=f"add `{line_of(mapping)}`, or set `format: pair-text-implicit`",
    )


def nearest_sentence(columns: frozenset[str], most: int = 3) -> str:
    """The formats that lack least, each with what is missing."""
    shown = []
    for entry in nearest(columns)[:most]:
        has = sorted(entry.own(columns))
        order = ", high is best" if entry.kind == "scores" else ""
        lacks = ", ".join(entry.missing(columns))
        shown.append(f"`{entry.name}` (has {', '.join(has)}; lacks {lacks}{order})")
    if not shown:
        return (
            "pairs have the columns prompt, chosen, rejected, unpaired answers prompt, completion, label, prompts "
            "prompt; rename yours with `mapping: {ours: yours}`. docs/data.md lists all layouts"
        )
    return (
        f"nearest: {'; '.join(shown)}. Rename with `mapping: {{ours: yours}}`; docs/data.md lists all layouts"
    )


def nearest(columns: frozenset[str]) -> list[Format]:
    """Formats that have some of their columns here and lack some, the nearest first, one for each set of columns."""
    found: dict[tuple[str, ...], Format] = {}
    for entry in FORMATS.values():
        if entry.missing(columns) and entry.own(columns) - {*ASKED} and not entry.by_name:
            found.setdefault(entry.columns, entry)
    share = {entry.name: len(entry.missing(columns)) / len(entry.columns) for entry in found.values()}
    near = [entry for entry in found.values() if share[entry.name] <= 0.5]
    return sorted(near, key=lambda entry: (share[entry.name], len(entry.columns)))


def suggestions(rows: Sequence[RawRow]) -> Iterator[dict[str, str]]:
    """Mappings worth trying, without columns that already have our names."""
    for mapping in _suggestions(rows):
        yield {ours: theirs for ours, theirs in mapping.items() if ours != theirs}


def _suggestions(rows: Sequence[RawRow]) -> Iterator[dict[str, str]]:
    """A question, answers whose names say which is better, or with a verdict; a system prompt."""
    present = list(dict.fromkeys(name for row in rows for name in row))
    texts = {name for name in present if any(_is_text(row.get(name)) for row in rows)}
    questions = [
        name
        for name in present
        if name in texts and set(words_of(name)) & _QUESTION_WORDS and not names_a_side(name)
    ]
    answers = [name for name in answer_columns(rows, questions) if name in texts]
    better = [name for name in answers if set(words_of(name)) & PREFERRED_WORDS]
    worse = [name for name in answers if set(words_of(name)) & OTHER_WORDS]
    one = [name for name in answers if set(words_of(name)) & ANSWER_WORDS]
    labels = [name for name in present if name not in texts and set(words_of(name)) & _LABEL_WORDS]
    system = [name for name in present if name not in SYSTEM and {"system", "sys"} & set(words_of(name))]
    more = {"system": system[0]} if len(system) == 1 else {}
    asked = [{"prompt": name} for name in questions if name != "prompt"] or [{}]
    if "prompt" in present:
        asked = [{}]
    elif not ASKED_NAMES.isdisjoint(present):
        asked.append({})
    for question, a, b in product(asked, better, worse):
        yield question | {"chosen": a, "rejected": b} | more
    for question, a, label in product(asked, one if len(answers) == 1 else [], labels):
        yield question | {"completion": a, "label": label} | more
    # a number may count the answers from 0 or from 1, or say how much better one is
    winners = [
        name
        for name in present
        if not set(words_of(name)).isdisjoint(VERDICT_WORDS | PREFERRED_WORDS)
        and name not in questions
        and name not in answers
        and any(_is_word(row.get(name)) for row in rows)
    ]
    if any(set(names) <= set(present) for names in ANSWER_PAIRS):
        yield from ({"winner": winner} | more for winner in winners)
    elif len(answers) == 2:
        for question, winner in product(asked, winners):
            yield question | {"response_a": answers[0], "response_b": answers[1], "winner": winner} | more
    for name, other in product((name for name in questions if name != "prompt"), worse):
        for ours in (
            "rejected_messages",
            "rejected_response",
        ):  # the conversation ends with the better answer
            yield {"messages": name, ours: other} | more
    for question in asked:
        yield question | more


def works(mapping: Mapping[str, str], rows: Sequence[RawRow], votes: Votes, *, whole: bool = True) -> bool:
    """Whether the rows, renamed so, are read by one format.

    whole   nothing refused among the first rows, and no column of text left unread
    """
    if not mapping:
        return False
    back = {theirs: ours for ours, theirs in mapping.items()}
    renamed = [{back.get(name, name): value for name, value in row.items()} for row in rows[:TRIED]]
    counts = votes(renamed)
    if len(counts) != 1:
        return False
    if not whole:
        return True
    entry = FORMATS[next(iter(counts))]
    tracked = [Tracked(row) for row in renamed]
    if counts[entry.name] < len(renamed) or not all(_is_read(row, entry) for row in tracked):
        return False
    read = frozenset((*OPTIONAL_COLUMNS, *SYSTEM)).union(*(row.used for row in tracked))
    left = [name for row in tracked for name, value in row.unused.items() if is_prose(value)]
    return read.issuperset(left) and not answer_columns(renamed, read)


def _is_read(row: Tracked, entry: Format) -> bool:
    try:
        entry.parse(row, Reading())
    except (Refusal, DataError):
        return False
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str) or is_prose(value)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and not value.strip().isdigit()


def line_of(mapping: Mapping[str, str]) -> str:
    """The mapping as a line of the configuration: YAML, in which a name that is no plain word is quoted."""
    return f"mapping: {{{', '.join(f'{ours}: {_yaml(theirs)}' for ours, theirs in mapping.items())}}}"


def _yaml(name: str) -> str:
    plain = _PLAIN.fullmatch(name) and name.lower() not in _YAML_WORDS
    return name if plain else json.dumps(name, ensure_ascii=False)


def _listed(rows: Sequence[RawRow], most: int = 12) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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


_PLAIN = re.compile(r"[^\W\d][\w.-]*( [\w.-]+)*")
_YAML_WORDS = words("y n yes no on off true false null none")
ASKED_NAMES = frozenset(ASKED)
_QUESTION_WORDS = words(
    "prompt prompts instruction question query input request ask user task post problem message messages "
    "conversation conversations dialogue context"
)
# of a column that may say yes or no of an answer; 1 of a rank or a grade may be the best or the worst
_LABEL_WORDS = VERDICT_WORDS - words(
    "rank ranks ranking rating ratings score scores reward rewards vote votes upvotes prob probs probability"
)
