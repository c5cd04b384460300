"""Rows of plain strings for a model that has a chat template: said, because the template is then not used."""

from __future__ import annotations

from equipoise.data.reading.read import Dataset


def note_plain_strings(dataset: Dataset, *, template: bool) -> None:
    """Adds a note that counts the rows which a chat model gets as plain strings, without its template.

    template   whether conversations are rendered by a chat template
    """
    if dataset.space == "text" and template:
        dataset.ledger.note(
            f"{len(dataset):,} rows are plain strings, for which the chat template is not used; `data.wrap: chat` "
            "makes them chat turns"
        )
