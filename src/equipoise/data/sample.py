"""Random sample of records: so many rows, or whole prompts, in the order of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import Literal

from equipoise.data.errors import DataError
from equipoise.data.records import Record


def sample(
    records: Sequence[Record], count: int, seed: int = 0, by: Literal["row", "prompt"] = "row"
) -> list[Record]:
    """`count` records, or all records of `count` prompts; fewer if there are no more.

    Which ones depends on the seed and on what they say, not on the order of the rows. Raises DataError for a
    count below 1.
    """
    if count < 1:
        raise DataError(f"a sample has at least one {by}, not {count}")

    def name(record: Record) -> Hashable:
        return record.group if by == "prompt" else record.identity()

    names = {name(record) for record in records}
    ranked = sorted(names, key=lambda n: hashlib.sha256(f"{seed}:{n}".encode()).digest())
    chosen = frozenset(ranked[:count])
    return [record for record in records if name(record) in chosen]
