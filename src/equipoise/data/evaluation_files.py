"""Separate evaluation files: held-out rows that must share no prompt with the training files."""

from __future__ import annotations

from equipoise.data.errors import DataError
from equipoise.data.reading.joined import WORDS
from equipoise.data.reading.read import Dataset
from equipoise.data.split import overlap


def check_evaluation(train: Dataset, held: Dataset, *, allow_overlap: bool = False) -> None:
    """Adds the evaluation rows' account to the training ledger's notes.

    Raises DataError for another kind of records or another space than in training, and for prompts in both, unless they
    are allowed.
    """
    for what, one, other in (
        ("kind", WORDS[train.kind], WORDS[held.kind]),
        ("space", train.space, held.space),
    ):
        if one != other:
            hint = "" if what == "kind" else "set `data.wrap: chat` to read strings as chat turns"
            raise DataError(f"the training files hold {one}, the evaluation files {other}", hint=hint or None)
    shared = overlap(train.records, held.records)
    if shared and not allow_overlap:
        first = next(record for record in held.records if record.group in shared)
        raise DataError.at(
            first.place,
            f"{len(shared):,} prompts are in the training and in the evaluation files",
            hint="remove them from one of the two, or set `data.allow_overlap: true`",
        )
    ledger, own = train.ledger, held.ledger
    ledger.note(
        f"evaluation files: {own.read:,} rows read, {own.used:,} used, {sum(own.refused.values()):,} refused, "
        f"{own.duplicate:,} duplicates; {len(shared):,} prompts shared with training"
    )
